"""Ops on questions with choices."""

import string
from typing import Any

import numpy as np

from pgjax.data.example import Example
from pgjax.errors import DataError
from pgjax.registry import OPS


def _choices(example: Example, key: str, correct: str) -> tuple[list[Any], int]:
    choices, index = list(example[key]), int(example[correct])
    if not 0 <= index < len(choices) <= len(string.ascii_uppercase):
        raise DataError(f"{correct!r} is {index}, but {key!r} has {len(choices)} choices.")
    return choices, index


@OPS.register("shuffle_choices")
def shuffle_choices(
    example: Example,
    key: str = "choices",
    correct: str = "correct",
    *,
    rng: np.random.Generator,
) -> Example:
    """Shuffle a list of choices, and the index of the right one with it."""
    choices, index = _choices(example, key, correct)
    order = rng.permutation(len(choices)).tolist()
    return {**example, key: [choices[i] for i in order], correct: order.index(index)}


@OPS.register("letter_choices")
def letter_choices(
    example: Example,
    key: str = "choices",
    correct: str = "correct",
    outkey: str = "options",
    letter: str = "letter",
) -> Example:
    """Write choices as '(A) one, (B) two' to outkey, and the letter of the right one to letter."""
    choices, index = _choices(example, key, correct)
    pairs = zip(string.ascii_uppercase, choices, strict=False)
    text = ", ".join(f"({name}) {choice}" for name, choice in pairs)
    return {**example, outkey: text, letter: string.ascii_uppercase[index]}
