"""COCO's compressed run-length encoding of masks, in plain numpy.

Column by column, runs of zeros and ones alternate, zeros first. From the fourth run on, a run's
length is written as its difference from the one two before. Each number goes out in groups of five
bits, lowest first; a sixth bit says that more follow, and 48 makes a printable character of it.
"""

from typing import Any

import numpy as np


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Encodes a mask, bool [H,W], as `pycocotools.mask.encode` does.

    Returns:
      `{"size": [H, W], "counts": text}`, ready for JSON.
    """
    pixels = mask.ravel(order="F")
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    runs = np.diff(edges, prepend=0, append=pixels.size).tolist()
    if pixels.size and pixels[0]:
        runs.insert(0, 0)
    numbers = [run - runs[i - 2] if i > 2 else run for i, run in enumerate(runs)]
    return {"size": list(mask.shape), "counts": "".join(map(_characters, numbers))}


def _characters(number: int) -> str:
    text, more = "", True
    while more:
        bits, number = number & 31, number >> 5
        more = number != (-1 if bits & 16 else 0)  # what is left repeats the sign bit
        text += chr((bits | (32 if more else 0)) + 48)
    return text
