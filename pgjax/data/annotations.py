"""Boxes and masks as their tools store them, as lines of JSONL with `<loc…>` and `<seg…>` suffixes.

Annotations are a file in COCO's format, or a folder of mask PNGs: `masks/LABEL/PHOTO.png`, where
every grey level or palette index above 0 is an object of its own. A line is a question about one
label in one image, so that its answer names every object of that label:

    {"image": "0001.jpg", "prefix": "detect cat", "suffix": "<loc…><loc…><loc…><loc…> cat ; …",
     "boxes": [[y0, x0, y1, x1]], "labels": ["cat"]}

`boxes` are fractions of height and width, for the metric mean_average_precision.
"""

import collections
import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pgjax.data.masks import crop_mask, mask_box
from pgjax.errors import DataError, UserError
from pgjax.text.locations import format_boxes

MOST_THINGS = 60  # in one mask file
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


class Thing(NamedTuple):
    """An object: its label, its box (y0, x0, y1, x1) as fractions, and its mask, bool [H,W]."""

    label: str
    box: tuple[float, float, float, float]
    mask: np.ndarray | None = None


class Picture(NamedTuple):
    """An image file, relative to the images' folder, with its objects."""

    file: str
    things: list[Thing]


class LeftOut(list[str]):
    """What was left out: a sentence with the place and the reason for each."""

    @contextlib.contextmanager
    def out(self, where: str) -> Iterator[None]:
        """Adds the message of a DataError, instead of raising it."""
        try:
            yield
        except DataError as e:
            self.append(f"{where}: {e}")


def from_coco(path: pathlib.Path, masks: bool, left: LeftOut) -> Iterator[Picture]:
    """Yields the pictures of a file in COCO's format, without crowds, which are no single objects.

    Args:
      path: the JSON file.
      masks: whether to decode masks as well, which needs pycocotools; boxes are then the masks'.
      left: gets a sentence for everything that is left out.

    Raises:
      UserError: the file is not in COCO's format, or pycocotools is not installed.
    """
    try:
        content = json.loads(path.read_text())
        images = {image["id"]: image for image in content["images"]}
        names = {category["id"]: category["name"] for category in content["categories"]}
        grouped = collections.defaultdict(list)
        for annotation in content["annotations"]:
            grouped[annotation["image_id"]].append(annotation)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(
            f"{path}: expected COCO's images, annotations and categories, got "
            f"{type(e).__name__}: {e}"
        ) from None
    for image_id in grouped.keys() - images.keys():
        left.append(f"{path.name}: annotations of image {image_id}, which is not among the images")
    for image_id, image in images.items():
        things = []
        for annotation in grouped[image_id]:
            with left.out(f"{image.get('file_name')}, annotation {annotation.get('id')}"):
                things.append(_coco_thing(annotation, image, names, masks))
        yield Picture(image["file_name"], things)


def _coco_thing(
    annotation: dict[str, Any], image: dict[str, Any], names: dict[int, str], masks: bool
) -> Thing:
    try:
        h, w, label = image["height"], image["width"], names[annotation["category_id"]]
        if annotation.get("iscrowd"):
            raise DataError("is a crowd")
        if masks:
            mask = _coco_mask(annotation["segmentation"], h, w)
            return Thing(label, mask_box(mask), mask)
        x, y, box_w, box_h = map(float, annotation["bbox"])
    except (KeyError, TypeError, ValueError) as e:
        raise DataError(f"expected COCO's keys, got {type(e).__name__}: {e}") from None
    box = np.clip([y / h, x / w, (y + box_h) / h, (x + box_w) / w], 0, 1)
    y0, x0, y1, x1 = box.tolist()
    if y0 >= y1 or x0 >= x1:
        raise DataError(f"bbox {annotation['bbox']} has no area inside the image of {w}x{h}")
    return Thing(label, (y0, x0, y1, x1))


def _coco_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decodes polygons, or run lengths as a list or compressed, to a mask, bool [H,W]."""
    try:
        from pycocotools import mask as coco_mask
    except ImportError:
        raise UserError("Masks of COCO need pycocotools: pip install 'pgjax[metrics]'.") from None
    if isinstance(segmentation, list):
        codes = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        codes = coco_mask.frPyObjects(segmentation, height, width)
    else:
        codes = segmentation
    return coco_mask.decode(codes).astype(bool)


def from_folder(folder: pathlib.Path, images: pathlib.Path, left: LeftOut) -> Iterator[Picture]:
    """Yields the pictures that a folder `LABEL/PHOTO.png` of masks is about.

    Args:
      folder: the folder of masks.
      images: the folder of photos.
      left: gets a sentence for everything that is left out.

    Raises:
      UserError: the folder holds no such file.
    """
    photos = {
        file.relative_to(images).with_suffix("").as_posix(): file
        for file in sorted(images.rglob("*"))
        if file.suffix.lower() in SUFFIXES and not file.is_relative_to(folder)
    }
    masks = collections.defaultdict(dict)
    for file in sorted(folder.glob("*/**/*.png")):
        label, *rest = file.relative_to(folder).with_suffix("").parts
        masks["/".join(rest)][label] = file
    if not masks:
        raise UserError(f"{folder}: expected masks as LABEL/PHOTO.png, found none.")
    for name, by_label in masks.items():
        if name not in photos:
            left.append(f"{', '.join(map(str, by_label.values()))}: no image {images / name}.*")
            continue
        things = []
        for label, file in by_label.items():
            with left.out(str(file)):
                things += _drawn_things(label, file, photos[name])
        yield Picture(photos[name].relative_to(images).as_posix(), things)


def _drawn_things(label: str, file: pathlib.Path, photo: pathlib.Path) -> Iterator[Thing]:
    try:
        with Image.open(file) as picture, Image.open(photo) as other:
            levels = np.asarray(picture if picture.mode == "P" else picture.convert("L"))
            size = other.size[::-1]
    except (OSError, ValueError, Image.DecompressionBombError) as e:
        raise DataError(f"cannot be read ({e})") from None
    if levels.shape != size:
        raise DataError(f"is {levels.shape} pixels (height, width), but {photo} is {size}")
    if not levels.any():
        raise DataError("is empty")
    values = np.unique(levels[levels > 0])
    if len(values) > MOST_THINGS:
        raise DataError(
            f"has {len(values)} levels: one stands for each object, edges are not smooth"
        )
    for level in values:
        mask = levels == level
        yield Thing(label, mask_box(mask), mask)


def lines(
    pictures: Iterable[Picture],
    images: pathlib.Path,
    root: pathlib.Path,
    encode: Callable[[np.ndarray], Sequence[int]] | None,
    left: LeftOut,
) -> Iterator[dict[str, Any]]:
    """The lines of the JSONL file, one for each label in each image.

    Args:
      pictures: from `from_coco` or `from_folder`.
      images: folder of the images.
      root: folder that image paths in the lines are relative to, from `root_of`.
      encode: the 16 codes of a mask, bool [H,W] cut to its box; None for boxes alone.
      left: gets a sentence for everything that is left out.
    """
    for picture in pictures:
        if not (images / picture.file).is_file():
            left.append(f"{images / picture.file}: does not exist")
            continue
        by_label = collections.defaultdict(list)
        for thing in picture.things:
            by_label[thing.label].append(thing)
        for label, things in by_label.items():
            boxes = [thing.box for thing in things]
            codes = encode and [encode(crop_mask(t.mask, t.box)) for t in things]
            with left.out(f"{picture.file}, {label}"):
                yield {
                    "image": os.path.relpath(images / picture.file, root),
                    "prefix": f"{'segment' if encode else 'detect'} {label}",
                    "suffix": format_boxes(boxes, [label] * len(boxes), codes),
                    "boxes": boxes,
                    "labels": [label] * len(boxes),
                }


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
