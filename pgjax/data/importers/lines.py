"""Annotated images as lines of JSONL with `<loc…>` and `<seg…>` suffixes.

A line is a question about one label in one image, so that its answer names every object of that
label:

    {"image": "0001.jpg", "prefix": "detect cat", "suffix": "<loc…><loc…><loc…><loc…> cat ; …",
     "boxes": [[y0, x0, y1, x1]], "labels": ["cat"]}

`boxes` are fractions of height and width, for the metric mean_average_precision.
"""

import collections
import dataclasses
import os
import pathlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pgjax.data.importers.annotated import AnnotatedImage, AnnotatedObject, Report
from pgjax.data.importers.orientation import Frame, Header, frame_of, read_header, turn_object
from pgjax.data.masks import crop_mask
from pgjax.errors import DataError
from pgjax.text.locations import clean_label, format_boxes


@dataclasses.dataclass
class LineWriter:
    """Turns annotated images into lines.

    Attributes:
      images: folder of the images.
      root: folder that image paths in the lines are relative to, from `root_of`.
      report: gets what is left out.
      encode: the 16 codes of a mask, bool [H, W] cut to its box; None for boxes alone.
      negatives: how many labels that an image does not show are asked for, with an empty answer.
      annotated: whether annotations are for images as stored or as shown; None to go by their
        sizes.
      counts: of images, objects, lines, negative lines, and images without an object.
    """

    images: pathlib.Path
    root: pathlib.Path
    report: Report
    encode: Callable[[np.ndarray], Sequence[int]] | None = None
    negatives: int = 0
    annotated: Frame | None = None
    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def lines(self, images: Iterable[AnnotatedImage]) -> Iterator[dict[str, Any]]:
        """Yields the lines of images, and then those of labels that images do not show.

        Which labels there are is known at the end alone, so that the questions without an answer
        come last, or nearly so; training shuffles.
        """
        absent: list[tuple[str, frozenset[str]]] = []
        labels: collections.Counter[str] = collections.Counter()
        for image in images:
            self.counts["images"] += 1
            path = os.path.relpath(self.images / image.file, self.root)
            for text in image.texts:
                self.counts["lines"] += 1
                yield {"image": path, **text}
            if image.objects is None:
                continue
            with self.report.leaving_out(image.file, image):
                shown = set[str]()
                for line in self._object_lines(image, path):
                    shown.update(line["labels"])
                    labels[line["labels"][0]] += len(line["labels"])
                    self.counts["lines"] += 1
                    self.counts["objects"] += len(line["labels"])
                    yield line
                self.counts["images without an object"] += not image.objects
                if self.negatives and image.complete:
                    absent.append((path, frozenset(shown)))
        yield from self._negative_lines(absent, sorted(labels))

    def _object_lines(self, image: AnnotatedImage, path: str) -> Iterator[dict[str, Any]]:
        header = read_header(self.images / image.file)
        by_label: dict[str, list[AnnotatedObject]] = collections.defaultdict(list)
        for thing in self._as_stored(image, header):
            with self.report.leaving_out(image.file, image):
                label = clean_label(thing.label)
                if label != thing.label:
                    self.report.note(f"the name {thing.label!r} was written as {label!r}", path)
                by_label[label].append(thing)
        for label, things in by_label.items():
            with self.report.leaving_out(f"{image.file}, {label}", image):
                yield self._line(label, things, path)

    def _as_stored(self, image: AnnotatedImage, header: Header) -> list[AnnotatedObject]:
        """The objects as they lie in the pixels of the file; see `orientation`."""
        things = image.objects or []
        if not things:
            return []
        frame = frame_of(header, image.size, self.annotated)
        own = header.stored if frame == "stored" else header.shown
        if image.size not in (None, own):
            self.report.note("the annotations are for the image at another size", image.file)
        if header.orientation != 1:
            self.report.note(
                "the image is turned by its EXIF data, and pgjax reads pixels as they are stored; "
                f"its annotations were taken to be for it as {frame}",
                image.file,
            )
        if frame == "shown":
            things = [turn_object(thing, header.orientation) for thing in things]
        return things

    def _line(self, label: str, things: list[AnnotatedObject], path: str) -> dict[str, Any]:
        boxes = [thing.box for thing in things]
        codes = None
        if self.encode:
            codes = []
            for thing in things:
                if thing.mask is None:
                    raise DataError("has no mask, only a box.")
                codes.append(self.encode(crop_mask(thing.mask, thing.box)))
        return {
            "image": path,
            "prefix": f"{self._task} {label}",
            "suffix": format_boxes(boxes, [label] * len(boxes), codes),
            "boxes": boxes,
            "labels": [label] * len(boxes),
        }

    def _negative_lines(
        self, absent: list[tuple[str, frozenset[str]]], labels: list[str]
    ) -> Iterator[dict[str, Any]]:
        for path, known in absent:
            others = [label for label in labels if label not in known]
            # By the image's own name, so that other images do not change which labels it gets.
            drawn = random.Random(path).sample(others, min(self.negatives, len(others)))
            for label in drawn:
                self.counts["lines"] += 1
                self.counts["negative lines"] += 1
                yield {
                    "image": path,
                    "prefix": f"{self._task} {label}",
                    "suffix": "",
                    "boxes": [],
                    "labels": [],
                }

    @property
    def _task(self) -> str:
        return "segment" if self.encode else "detect"


def root_of(images: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """What image paths in a JSONL file are relative to: its own folder, if the images are in it.

    Args:
      images: folder of the images.
      out: the JSONL file.

    Returns:
      The folder of `out`, or else `images`.
    """
    beside = images.resolve().is_relative_to(out.parent.resolve())
    return out.parent if beside else images
