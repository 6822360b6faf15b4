"""Masks from polygons, which are checked before memory is spent on them."""

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
