"""Pascal VOC's XML files, one for each image, and CVAT's, one for a whole task."""

import pathlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import numpy as np

from pgjax.data.importers.annotated import (
    AnnotatedImage,
    AnnotatedObject,
    Import,
    image_size,
    numbers,
    pixel_box,
)
from pgjax.data.importers.outlines import outlined_object, turned_corners
from pgjax.data.masks import mask_box
from pgjax.errors import DataError, UserError
from pgjax.run_lengths import filled_runs


def parse_xml(path: pathlib.Path) -> ElementTree.Element:
    """Parses an XML file; entities that would grow it without bounds are refused by expat.

    Raises:
      DataError: it cannot be read.
    """
    try:
        return ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, ValueError, LookupError, RecursionError) as e:
        raise DataError(f"is not XML that can be read ({e}).") from None


# ---- Pascal VOC ----------------------------------------------------------------------------------


def voc_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The XML files of a folder in Pascal VOC's form: in Annotations, or beside the images."""
    own = folder / "Annotations"
    return sorted((own if own.is_dir() else folder).glob("*.xml"))


def read_voc(given: Import) -> Iterator[AnnotatedImage]:
    """Yields the images of a folder in Pascal VOC's form, or of one of its XML files.

    VOC counts pixels from 1 and includes the last one, so that near edges are one less here.
    Parts of objects (`part`), which have boxes of their own, are not read.
    """
    files = voc_files(given.source) if given.source.is_dir() else [given.source]
    for file in files:
        with given.report.leaving_out(file.name):
            root = parse_xml(file)
            if root.tag != "annotation":
                raise DataError(f"has the root {root.tag[:40]!r}, expected 'annotation'.")
            stem, name = file.stem, (root.findtext("filename") or "").strip()
            found = given.find_image(*filter(None, (name, f"JPEGImages/{name}" if name else "")),
                                     stem, f"JPEGImages/{stem}")  # fmt: skip
            image = AnnotatedImage(found, [])
            image.size = image_size(root.findtext("size/height"), root.findtext("size/width"))
            _voc_objects(root, image, file, given)
            yield image


def _voc_objects(
    root: ElementTree.Element, image: AnnotatedImage, file: pathlib.Path, given: Import
) -> None:
    assert image.objects is not None and image.size is not None
    for number, one in enumerate(root.findall("object"), 1):
        with given.report.leaving_out(f"{file.name}, object {number}", image):
            if given.masks:
                raise DataError("is a box, and masks are wanted.")
            texts = [one.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
            x0, y0, x1, y1 = numbers(texts, 4, "bndbox")
            box = pixel_box(y0 - 1, x0 - 1, y1, x1, image.size)
            image.objects.append(AnnotatedObject(one.findtext("name"), box))


# ---- CVAT ----------------------------------------------------------------------------------------


def read_cvat(given: Import) -> Iterator[AnnotatedImage]:
    """Yields the images of an XML file in the form "CVAT for images 1.1".

    Raises:
      UserError: the file is another one, such as that of a video, whose tracks are not images.
    """
    try:
        root = parse_xml(given.source)
    except DataError as e:
        raise UserError(f"{given.source} {e}") from None
    if root.tag != "annotations" or root.find("track") is not None:
        raise UserError(
            f"{given.source}: expected images, as CVAT exports by the format 'CVAT for images 1.1'."
        )
    for element in root.findall("image"):
        where = f"{given.source.name}, image {element.get('id')}"
        with given.report.leaving_out(where):
            image = AnnotatedImage(given.find_image(element.get("name", "")), [])
            image.size = image_size(element.get("height"), element.get("width"))
            assert image.objects is not None
            for number, shape in enumerate(element, 1):
                if shape.tag != "tag":
                    with given.report.leaving_out(f"{image.file}, shape {number}", image):
                        image.objects.append(_cvat_shape(shape, image.size, given.masks))
            yield image


def _cvat_shape(shape: ElementTree.Element, size: tuple[int, int], masks: bool) -> AnnotatedObject:
    label = shape.get("label")
    if shape.tag == "mask":
        return _cvat_mask(shape, size)
    if shape.tag == "polygon":
        points = [numbers(p.split(","), 2, "a point") for p in shape.get("points", "").split(";")]
    elif shape.tag == "box":
        edges = [shape.get(key) for key in ("xtl", "ytl", "xbr", "ybr")]
        x0, y0, x1, y1 = numbers(edges, 4, "the box")
        if masks:
            raise DataError("is a box, and masks are wanted.")
        (angle,) = numbers([shape.get("rotation", "0")], 1, "rotation")
        points = turned_corners((x0, y0, x1, y1), angle, ((x0 + x1) / 2, (y0 + y1) / 2))
    else:
        raise DataError(f"is a {shape.tag}, expected box, polygon or mask.")
    return outlined_object(label, points, size, masks)


def _cvat_mask(shape: ElementTree.Element, size: tuple[int, int]) -> AnnotatedObject:
    keys = ("top", "left", "height", "width")
    top, left, height, width = map(int, numbers([shape.get(k) for k in keys], 4, "the mask"))
    own = image_size(height, width)
    if min(top, left) < 0 or top + height > size[0] or left + width > size[1]:
        raise DataError("is a mask that leaves the image.")
    try:
        counts = [int(text) for text in shape.get("rle", "").split(",")]
    except ValueError:
        raise DataError("has run lengths that are no numbers.") from None
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = filled_runs(
        counts, (own[1], own[0])
    )  # along rows
    return AnnotatedObject(shape.get("label"), mask_box(mask), mask)
