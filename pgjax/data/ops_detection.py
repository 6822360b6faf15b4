"""The op that makes targets of detection with noise boxes."""

import numpy as np

from pgjax.data.example import Example
from pgjax.errors import DataError
from pgjax.registry import OPS
from pgjax.text.compose import OnTruncate
from pgjax.text.noise_boxes import detection_arrays
from pgjax.text.tokenizer import Tokenizer


@OPS.register("for_detection")
def for_detection(
    example: Example,
    text_len: int,
    objects: int,
    prefix: str = "prefix",
    suffix: str = "suffix",
    on_truncate: OnTruncate = "error",
    *,
    tokenizer: Tokenizer,
    rng: np.random.Generator,
) -> Example:
    """Make text, mask_ar and mask_loss, [text_len + 1], of boxes filled up with noise boxes.

    The boxes of the suffix come in a random order, then as many noise boxes as there are fewer than
    `objects`. More objects or tokens than fit are an error, or the example is dropped; with
    "truncate" a random choice of the objects is taken, which sets `_truncated`.
    """
    prompt, target = (_text(example, key) for key in (prefix, suffix))
    arrays, cut = detection_arrays(tokenizer, prompt, target, text_len, objects, rng, on_truncate)
    return {**example, **({"_truncated": True} if cut else {}), **arrays}


def _text(example: Example, key: str) -> str:
    text = example[key]
    text = text.decode() if isinstance(text, bytes) else text
    if not isinstance(text, str):
        raise DataError(f"The {key} is a {type(text).__name__}, expected one string.")
    return text
