"""A folder of mask PNGs: `masks/LABEL/PHOTO.png`.

Every grey level or palette index above 0 is an object of its own.
"""

import collections
import pathlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from pgjax.data.importers.annotated import (
    AnnotatedImage,
    AnnotatedObject,
    Import,
)
from pgjax.data.masks import mask_box
from pgjax.data.source_files import IMAGE_SUFFIXES
from pgjax.errors import DataError, UserError

MOST_OBJECTS = 60  # in one mask file


def read_mask_folder(given: Import) -> Iterator[AnnotatedImage]:
    """Yields the images that a folder `LABEL/PHOTO.png` of masks is about.

    Raises:
      UserError: the folder holds no such file.
    """
    folder, images = given.source, given.images
    photos = {
        file.relative_to(images).with_suffix("").as_posix(): file
        for file in sorted(images.rglob("*"))
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.is_relative_to(folder)
    }
    masks: dict[str, dict[str, pathlib.Path]] = collections.defaultdict(dict)
    for file in sorted(folder.glob("*/**/*.png")):
        label, *rest = file.relative_to(folder).with_suffix("").parts
        masks["/".join(rest)][label] = file
    if not masks:
        raise UserError(f"{folder}: expected masks as LABEL/PHOTO.png, found none.")
    for name, by_label in masks.items():
        if name not in photos:
            files = ", ".join(map(str, by_label.values()))
            given.report.left_out.append(f"{files}: there is no image {images / name}.*")
            continue
        image = AnnotatedImage(photos[name].relative_to(images).as_posix(), [])
        assert image.objects is not None
        for label, file in by_label.items():
            with given.report.leaving_out(str(file), image):
                levels = _levels(file)
                if image.size not in (None, levels.shape):
                    raise DataError(f"is {levels.shape} pixels (height, width), not {image.size}.")
                image.size = levels.shape
                image.objects += _objects(label, levels)
        yield image


def _levels(file: pathlib.Path) -> np.ndarray:
    try:
        with Image.open(file) as picture:
            return np.asarray(picture if picture.mode == "P" else picture.convert("L"))
    except Exception as e:  # Pillow's readers raise whatever a damaged file leads to
        raise DataError(f"cannot be read ({e}).") from None


def _objects(label: str, levels: np.ndarray) -> Iterator[AnnotatedObject]:
    if not levels.any():
        raise DataError("is empty.")
    values = np.unique(levels[levels > 0])
    if len(values) > MOST_OBJECTS:
        raise DataError(
            f"has {len(values)} levels: one stands for each object, edges are not smooth."
        )
    for level in values:
        mask = levels == level
        yield AnnotatedObject(label, mask_box(mask), mask)
