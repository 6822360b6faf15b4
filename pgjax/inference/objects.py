"""Objects in an answer, with the model's confidence in each."""

import itertools
from typing import NamedTuple

import numpy as np

from pgjax.text.locations import Box, parse_boxes
from pgjax.text.tokenizer import Tokenizer


class DetectedObject(NamedTuple):
    """An object in an image.

    `box` is (y0, x0, y1, x1) in the image's pixels; `score`, in 0..1, is the geometric mean of
    the probabilities of the tokens that stand for it; `mask` bool [H,W], or None where only boxes
    were asked for.
    """

    label: str
    box: tuple[float, float, float, float]
    score: float
    mask: np.ndarray | None = None


def scored_objects(
    tokenizer: Tokenizer, tokens: np.ndarray, logprobs: np.ndarray
) -> list[tuple[Box, float]]:
    """The objects that an answer names, with scores.

    Args:
      tokenizer: that decodes the answer.
      tokens: int32 [T].
      logprobs: float32 [T].

    Returns:
      (box, score) in the order of the text. What does not parse is left out.
    """
    first, last = tokenizer.loc_id(0), tokenizer.loc_id(1023)
    is_loc = (tokens >= first) & (tokens <= last)
    # An object starts at a location that does not continue others.
    starts = np.flatnonzero(is_loc & ~np.concatenate([[False], is_loc[:-1]])).tolist()
    found = []
    for start, stop in itertools.pairwise([*starts, len(tokens)]):
        text = tokenizer.decode(tokens[start:stop].tolist())
        score = float(np.exp(logprobs[start:stop].mean(dtype=np.float64)))
        found += [(box, score) for box in parse_boxes(text)]
    return found
