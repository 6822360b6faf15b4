"""Masks from polygons and run lengths, which are checked before memory is spent on them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from pgjax.data.importers.annotated import AnnotatedObject, outline_box
from pgjax.data.masks import mask_box
from pgjax.errors import DataError, UserError

MOST_POINTS = 100_000  # of the polygons of one object

Mask = Bool[np.ndarray, "h w"]


def polygon_mask(polygons: Any, size: tuple[int, int]) -> Mask:
    """Fills polygons, as COCO does.

    Args:
      polygons: [N][2 M], x and y of each point in turn, in pixels.
      size: (height, width), already checked by `image_size`.

    Raises:
      DataError: they are no polygons, or reach far outside the image.
      UserError: pycocotools is not installed.
    """
    height, width = size
    if not isinstance(polygons, list) or not polygons:
        raise DataError(f"the segmentation is {str(polygons)[:60]}, expected polygons.")
    checked = []
    for polygon in polygons:
        try:
            values = np.asarray(polygon, np.float64)
        except (TypeError, ValueError, OverflowError):
            raise DataError(
                "a polygon of the segmentation holds other things than numbers."
            ) from None
        if values.ndim != 1 or len(values) % 2 or len(values) < 6:
            raise DataError(
                f"a polygon of the segmentation has {values.size} numbers, expected x and y of at "
                "least 3 points."
            )
        if not np.isfinite(values).all() or np.abs(values).max() > 4 * max(height, width):
            raise DataError(f"a polygon reaches far outside the image of {width}x{height} pixels.")
        checked.append(values.tolist())
    if sum(map(len, checked)) > 2 * MOST_POINTS:
        raise DataError(f"the segmentation has more than {MOST_POINTS:,} points.")
    try:
        from pycocotools import mask as coco_mask
    except ImportError:
        raise UserError(
            "Polygons need pycocotools: pip install 'paligemma-jax[metrics]'."
        ) from None
    codes = coco_mask.merge(coco_mask.frPyObjects(checked, height, width))
    return coco_mask.decode(codes).astype(bool)


def run_length_mask(segmentation: Any, size: tuple[int, int]) -> Mask:
    """Decodes COCO's run lengths, `{"counts": …, "size": [h, w]}`, compressed or as a list.

    Args:
      segmentation: the annotation's value.
      size: (height, width) of the image, already checked by `image_size`.

    Raises:
      DataError: they are no run lengths, or do not fill the image.
    """
    if not isinstance(segmentation, dict) or "counts" not in segmentation:
        raise DataError(f"the segmentation is {str(segmentation)[:60]}, expected run lengths.")
    stated = segmentation.get("size", list(size))
    if stated != list(size):
        raise DataError(f"the run lengths are for the size {str(stated)[:40]}, expected {[*size]}.")
    counts = segmentation["counts"]
    if isinstance(counts, str | bytes):
        counts = decompressed(counts)
    return filled_runs(counts, size).T


def filled_runs(counts: Sequence[Any], size: tuple[int, int]) -> Mask:
    """Returns runs of background and object, in turn, as bool [W, H]: down the columns of `size`.

    Raises:
      DataError: the runs do not fill the image.
    """
    height, width = size
    if not isinstance(counts, list) or not all(type(c) is int and c >= 0 for c in counts):
        raise DataError("the run lengths hold other things than whole numbers from 0.")
    if sum(counts) != height * width:
        raise DataError(
            f"the run lengths cover {sum(counts):,} pixels, but the image has {width}x{height} = "
            f"{height * width:,}."
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height)


def decompressed(text: str | bytes) -> list[int]:
    """Reads the run lengths in COCO's compressed text.

    Each number comes as groups of five bits, lowest first, to each of which 48 is added; a sixth
    bit says that more follow. From the fourth on, a number is the difference from the one two
    before.

    Raises:
      DataError: the text holds other characters, or ends within a number.
    """
    codes = text.encode("utf-8", "replace") if isinstance(text, str) else text
    counts: list[int] = []
    value = shift = 0
    for code in codes:
        bits = code - 48
        if not 0 <= bits < 64 or shift > 40:
            raise DataError("the compressed run lengths are damaged.")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise DataError("the compressed run lengths end within a number.")
    return counts


def outlined_object(
    label: Any, points: Sequence[Sequence[float]], size: tuple[int, int], masks: bool
) -> AnnotatedObject:
    """Returns the object inside a polygon.

    Args:
      label: its name.
      points: (x, y) in pixels.
      size: (height, width) of the image.
      masks: whether to fill the polygon; the box is then that of the mask.

    Raises:
      DataError: the polygon has no area inside the image.
    """
    if not masks:
        return AnnotatedObject(label, outline_box(points, size))
    mask = polygon_mask([[v for point in points for v in point]], size)
    return AnnotatedObject(label, mask_box(mask), mask)


def turned_corners(
    edges: tuple[float, float, float, float], degrees: float, about: tuple[float, float]
) -> list[list[float]]:
    """The corners (x, y) of a box (x0, y0, x1, y1), turned clockwise about a point."""
    x0, y0, x1, y1 = edges
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    cx, cy = about
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return [
        [cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos]
        for x, y in corners
    ]
