"""COCO's run lengths of masks, which are checked before memory is spent on them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from pgjax.errors import DataError

MOST_PIXELS = 178_000_000  # as of an image

Mask = Bool[np.ndarray, "h w"]


def run_length_mask(segmentation: Any, size: tuple[int, int]) -> Mask:
    """Decodes COCO's run lengths, `{"counts": …, "size": [h, w]}`, compressed or as a list.

    Args:
      segmentation: the annotation's value.
      size: (height, width) of the image.

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
    if not 0 < height * width <= MOST_PIXELS:
        raise DataError(f"the mask has {width}x{height} pixels, expected {MOST_PIXELS:,} at most.")
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
