"""COCO's boxes, polygons and run lengths, in a file or in a folder that Roboflow exported."""

import collections
import contextlib
import gc
import pathlib
from array import array
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

from pgjax.data.importers.annotated import (
    AnnotatedImage,
    AnnotatedObject,
    Import,
    image_size,
    numbers,
    pixel_box,
)
from pgjax.data.importers.json_stream import elements
from pgjax.data.importers.orientation import read_header
from pgjax.data.importers.outlines import polygon_mask
from pgjax.data.masks import mask_box
from pgjax.errors import DataError, UserError
from pgjax.run_lengths import run_length_mask

ROBOFLOW_FILE = "_annotations.coco.json"


class _Annotation(NamedTuple):
    """What is kept of an annotation; a whole file of them is in memory."""

    id: Any
    category: Any
    box: Any
    crowd: bool
    outline: Any


def read_coco(given: Import) -> Iterator[AnnotatedImage]:
    """Yields the images of a file in COCO's format, or of a folder that Roboflow exported.

    Crowds are left out, because they are no single objects. Images with one id, whose annotations
    cannot be told apart, are left out as well; entries with one file name become one image. Where
    masks are wanted, boxes are those of the masks.

    Raises:
      UserError: the file is not in COCO's format.
    """
    path = given.source / ROBOFLOW_FILE if given.source.is_dir() else given.source
    with _without_collections():
        images, names, annotations = _tables(path, given)
    entries: dict[str, list[dict[str, Any]]] = {}
    for image in images.values():
        name = image.get("file_name")
        if not isinstance(name, str) or not name:
            given.report.left_out.append(
                f"{path.name}, image {image['id']}: its file_name is {name!r}, expected a path"
            )
            continue
        with given.report.leaving_out(f"{path.name}, image {image['id']}"):
            entries.setdefault(given.find_image(name), []).append(image)
    for file, same in entries.items():
        if len(same) > 1:
            given.report.note("an image is listed more than once; its objects were joined", file)
        merged = AnnotatedImage(file, [])
        for image in same:
            with given.report.leaving_out(file, merged):
                size = _size(image, given.images / file)
                if merged.size not in (None, size):
                    raise DataError(f"is listed with the sizes {merged.size} and {size}.")
                merged.size = size
                found = annotations.get(image["id"], ())
                _add_objects(merged, found, names, given)
        yield merged


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Pauses garbage collection, which would visit every annotation again and again."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


def _tables(
    path: pathlib.Path, given: Import
) -> tuple[dict[Any, dict[str, Any]], dict[Any, Any], dict[Any, list[_Annotation]]]:
    """Images and categories by id, and annotations by image id."""
    report = given.report
    images: dict[Any, dict[str, Any]] = {}
    names: dict[Any, Any] = {}
    annotations: dict[Any, list[_Annotation]] = collections.defaultdict(list)
    twice: set[Any] = set()
    seen: set[str] = set()
    for key, one in elements(path):
        seen.add(key)
        if key not in ("images", "categories", "annotations"):
            continue
        which = "image_id" if key == "annotations" else "id"
        if not isinstance(one, dict) or not isinstance(one.get(which), Hashable):
            report.left_out.append(f"{path.name}: {str(one)[:80]} among the {key} has no {which}")
            continue
        label = one.get(which)
        if key == "images":
            if label in images:
                twice.add(label)
            kept = {k: one.get(k) for k in ("id", "file_name", "height", "width")}
            images[label] = kept
        elif key == "categories":
            names[label] = one.get("name")
        else:
            annotations[label].append(
                _Annotation(
                    one.get("id"),
                    one.get("category_id"),
                    one.get("bbox"),
                    bool(one.get("iscrowd")),
                    _compact(one.get("segmentation")) if given.masks else None,
                )
            )
    if missing := {"images", "categories"} - seen:
        raise UserError(
            f"{path}: expected COCO's images, annotations and categories, but it has no "
            f"{' and no '.join(sorted(missing))}."
        )
    for label in twice:
        del images[label]
        report.left_out.append(f"{path.name}: more than one image has the id {label}")
    for label in annotations.keys() - images.keys() - twice:
        report.left_out.append(
            f"{path.name}: annotations of image {label}, which is not among the images"
        )
    return images, names, annotations


def _compact(outline: Any) -> Any:
    """Polygons as arrays of numbers, which take a quarter of the memory of lists."""
    if not isinstance(outline, list):
        return outline
    try:
        return [array("d", polygon) for polygon in outline]
    except (TypeError, OverflowError):
        return outline  # refused later, with its place


def _size(image: dict[str, Any], path: pathlib.Path) -> tuple[int, int]:
    if image["height"] is None and image["width"] is None:
        return read_header(path).stored
    return image_size(image["height"], image["width"])


def _add_objects(
    image: AnnotatedImage, annotations: Any, names: dict[Any, Any], given: Import
) -> None:
    assert image.objects is not None and image.size is not None
    for one in annotations:
        with given.report.leaving_out(f"{image.file}, annotation {one.id}", image):
            thing = _thing(one, names, image.size, given.masks)
            if any(thing[:2] == other[:2] for other in image.objects):
                raise DataError("is the same as another one.")
            image.objects.append(thing)


def _thing(
    one: _Annotation, names: dict[Any, Any], size: tuple[int, int], masks: bool
) -> AnnotatedObject:
    if not isinstance(one.category, Hashable) or one.category not in names:
        raise DataError(f"category {one.category!r} is not among the categories.")
    label = names[one.category]
    if one.crowd:
        raise DataError("is a crowd.")
    if masks:
        decode = run_length_mask if isinstance(one.outline, dict) else polygon_mask
        mask = decode(one.outline, size)
        return AnnotatedObject(label, mask_box(mask), mask)
    x, y, width, height = numbers(one.box, 4, "bbox")
    return AnnotatedObject(label, pixel_box(y, x, y + height, x + width, size))
