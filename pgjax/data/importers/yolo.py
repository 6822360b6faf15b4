"""YOLO's format: `data.yaml`, and a text file of boxes or polygons for each image.

A line is `class x y width height` with the middle of the box, or `class x1 y1 x2 y2 x3 y3 …` with
the points of a polygon, all as fractions of the image. A file of boxes that a model has found has
their scores as a sixth number. An image without a file, or with an empty one, shows no object.
"""

import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from pgjax.data.importers.annotated import (
    AnnotatedImage,
    AnnotatedObject,
    Import,
    numbers,
    pixel_box,
    read_text,
)
from pgjax.data.importers.orientation import read_header
from pgjax.data.importers.outlines import outlined_object
from pgjax.data.source_files import IMAGE_SUFFIXES
from pgjax.errors import DataError, UserError

WHOLE = (1, 1)  # the size for which fractions are "pixels"


def find_yaml(source: pathlib.Path) -> pathlib.Path | None:
    """Returns the YAML file of a YOLO data set, given itself or its folder; None if it is none."""
    if source.is_file():
        return source if source.suffix in (".yaml", ".yml") else None
    found = [path for path in (source / "data.yaml", source / "dataset.yaml") if path.is_file()]
    return found[0] if found else None


def read_yolo(given: Import) -> Iterator[AnnotatedImage]:
    """Yields the images of one split, in the order of their names.

    Raises:
      UserError: the YAML file is not one of YOLO's, or does not have the split.
    """
    path = find_yaml(given.source)
    assert path is not None
    try:
        config = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise UserError(f"{path} is not YAML ({' '.join(str(e).split())}).") from None
    if not isinstance(config, dict) or "names" not in config:
        raise UserError(f"{path}: expected YOLO's keys names and train or val.")
    names = _names(config["names"], path)
    for file in _images(config, path, given):
        image = AnnotatedImage(file.relative_to(_absolute(given.images)).as_posix(), [])
        labels = labels_of(file)
        if labels.is_file():
            _read_labels(labels, image, names, given)
        yield image


def labels_of(image: pathlib.Path) -> pathlib.Path:
    """The text file of an image: in `labels` for the last `images` of its path, or beside it."""
    parts = list(image.parts)
    for i in reversed(range(len(parts) - 1)):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return pathlib.Path(*parts).with_suffix(".txt")


def _names(names: Any, path: pathlib.Path) -> dict[int, Any]:
    if isinstance(names, list):
        return dict(enumerate(names))
    try:
        return {int(k): v for k, v in names.items()}
    except (AttributeError, TypeError, ValueError):
        raise UserError(f"{path}: names is {str(names)[:60]}, expected a list.") from None


def _images(config: Mapping[str, Any], path: pathlib.Path, given: Import) -> Iterator[pathlib.Path]:
    keys = {"valid": "val", "validation": "val"}
    entry = config.get(keys.get(given.split, given.split))
    if not entry:
        splits = [key for key in ("train", "val", "test") if config.get(key)]
        raise UserError(f"{path}: there is no split {given.split!r}, expected one of {splits}.")
    for one in entry if isinstance(entry, list) else [entry]:
        place = _place(str(one), config.get("path"), path)
        if place.is_file():  # a list of images
            named = [line.strip() for line in read_text(place).split("\n") if line.strip()]
            files = [_absolute(place.parent / name) for name in named]
        else:
            files = sorted(_absolute(f) for f in place.rglob("*") if _is_image(f))
        for file in files:
            if file.is_file() and file.is_relative_to(_absolute(given.images)):
                yield file
            else:
                given.report.left_out.append(f"{file}: is not in {given.images}")


def _absolute(path: pathlib.Path) -> pathlib.Path:
    """Without `..`, but with symbolic links as they are: labels lie beside a linked folder."""
    return pathlib.Path(os.path.abspath(path))


def _is_image(file: pathlib.Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith("._")


def _place(entry: str, base: Any, path: pathlib.Path) -> pathlib.Path:
    """Where a split lies; Roboflow writes `../train/images` for a folder beside the YAML file."""
    roots = [path.parent / str(base)] if base else []
    tried = [root / entry for root in [*roots, path.parent]]
    if entry.startswith("../"):
        tried.append(path.parent / entry.removeprefix("../"))
    for place in tried:
        if place.exists():
            return place
    raise UserError(f"{path}: {entry!r} was not found as {' or '.join(map(str, tried))}.")


def _read_labels(
    file: pathlib.Path, image: AnnotatedImage, names: Mapping[int, Any], given: Import
) -> None:
    assert image.objects is not None
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if not line.strip():
            continue
        with given.report.leaving_out(f"{file.name}:{number}", image):
            first, *rest = line.split()
            values = numbers(rest, len(rest), "the line")
            label = _label(first, names)
            if len(values) >= 6 and len(values) % 2 == 0:
                image.objects.append(_polygon(label, values, image, given))
            elif len(values) in (4, 5):
                x, y, w, h = values[:4]
                box = pixel_box(y - h / 2, x - w / 2, y + h / 2, x + w / 2, WHOLE)
                if given.masks:
                    raise DataError("is a box, and masks are wanted.")
                image.objects.append(AnnotatedObject(label, box))
            else:
                raise DataError(
                    f"the line has {len(values)} numbers after the class, expected the 4 of a box "
                    "or the points of a polygon."
                )


def _label(text: str, names: Mapping[int, Any]) -> Any:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if number not in names:
        raise DataError(f"class {text[:20]!r} is not among the {len(names)} names.")
    return names[int(number)]


def _polygon(
    label: Any, values: list[float], image: AnnotatedImage, given: Import
) -> AnnotatedObject:
    points = list(zip(values[::2], values[1::2], strict=True))
    if not given.masks:
        return outlined_object(label, points, WHOLE, masks=False)
    if image.size is None:
        image.size = read_header(given.images / image.file).stored
    height, width = image.size
    return outlined_object(label, [(x * width, y * height) for x, y in points], image.size, True)
