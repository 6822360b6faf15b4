"""Brings masks from an image to the mask codec's 64 × 64 pixels and back; numpy only.

Boxes are (y0, x0, y1, x1) as fractions of the image's height and width.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Shaped

from pgjax.data.resize import resize_image
from pgjax.errors import DataError

SIDE = 64
Box = Sequence[float]


def mask_box(mask: Shaped[np.ndarray, "h w"]) -> tuple[float, float, float, float]:
    """Returns the box that bounds a mask [H, W].

    Raises:
      DataError: the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise DataError(f"the mask of {mask.shape[0]}x{mask.shape[1]} pixels is empty.")
    h, w = mask.shape
    return rows[0] / h, columns[0] / w, (rows[-1] + 1) / h, (columns[-1] + 1) / w


def crop_mask(mask: Shaped[np.ndarray, "h w"], box: Box) -> Float32[np.ndarray, "64 64"]:
    """Returns the part of a mask [H, W] inside a box, as the codec encodes it.

    Returns:
      float32 [64, 64] in 0..1, resized with antialiasing.

    Raises:
      DataError: the box covers no pixel.
    """
    y0, x0, y1, x1 = (round(float(v) * s) for v, s in zip(box, mask.shape * 2, strict=True))
    part = mask[y0:y1, x0:x1]
    if not part.size:
        raise DataError(f"the box {tuple(box)} covers no pixel of a mask of shape {mask.shape}.")
    return resize_image(part.astype(np.float32)[..., None], (SIDE, SIDE), antialias=True)[..., 0]


def paste_mask(
    decoded: Float32[np.ndarray, "64 64"], box: Box, size: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """Puts a decoded mask into its box.

    Args:
      decoded: float32 [64, 64], positive inside of the mask.
      box: where it lies; edges are rounded down to pixels, and at least one pixel is covered.
      size: height and width of the image.

    Returns:
      bool [H, W].
    """
    h, w = size
    y0, x0, y1, x1 = (int(v * s) for v, s in zip(box, (h, w, h, w), strict=True))
    y0, x0 = min(y0, h - 1), min(x0, w - 1)
    y1, x1 = max(y1, y0 + 1), max(x1, x0 + 1)
    part = resize_image(decoded[..., None], (y1 - y0, x1 - x0), antialias=True)[..., 0]
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = part > 0
    return mask
