"""The few lengths of text that programs are compiled for, so that few programs are compiled."""

from collections.abc import Mapping

import numpy as np

from pgjax.errors import UserError

LENGTHS = (16, 32, 64, 128, 256, 512, 1024)  # tokens of prompts and of answers
_TEXTS = ("text", "mask_ar", "mask_input")


def compiled_length(length: int) -> int:
    """The shortest compiled length that holds `length` tokens; beyond the last, `length` itself.

    Raises:
      UserError: the length is below 1.
    """
    if length < 1:
        raise UserError(f"max_new_tokens is {length}, expected 1 or more.")
    return next((n for n in LENGTHS if n >= length), length)


def trimmed(arrays: Mapping[str, np.ndarray], width: int) -> dict[str, np.ndarray]:
    """Drops the columns from `width` on of the text arrays, [...,T] each; others stay."""
    return {k: x[..., :width] if k in _TEXTS else x for k, x in arrays.items()}
