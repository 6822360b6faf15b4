"""Lengths of text that programs are compiled for: few, so that few are compiled."""

from collections.abc import Mapping

import numpy as np

from pgjax.errors import UserError

LENGTHS = (16, 32, 64, 128, 256, 512, 1024)  # of prompts and of answers
_TEXTS = ("text", "mask_ar", "mask_input")


def compiled_length(length: int) -> int:
    """The compiled length for a wanted one."""
    if length < 1:
        raise UserError(f"max_new_tokens is {length}, expected 1 or more.")
    return next((n for n in LENGTHS if n >= length), length)


def trimmed(arrays: Mapping[str, np.ndarray], width: int) -> dict[str, np.ndarray]:
    """Drops columns of text, [...,T] each, from `width` on."""
    return {k: x[..., :width] if k in _TEXTS else x for k, x in arrays.items()}
