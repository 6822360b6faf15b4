"""What is shown of a record: its prompt, answer, expected answer, score and image."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from pgjax.data.decode import as_rgb, decode_image
from pgjax.evaluation.main_score import MainScore


class ShownRecord(NamedTuple):
    """The readable parts of a record.

    Attributes:
      prompt: the text of the prompt.
      answer: of the model; None where the evaluation makes none.
      expected: the target, or the references with ` | ` between them; "" where there are none.
      score: the main score; None where the record has none.
      right: whether the answer counts as right, with a score of at least 0.5; None where that
        cannot be said, as of a score of which a lower one is better.
    """

    prompt: str
    answer: str | None
    expected: str
    score: float | None
    right: bool | None


def shown_record(record: Mapping[str, Any], main: MainScore | None) -> ShownRecord:
    """Returns what is shown of a record; without a main score, the score is left out."""
    answer = record.get("prediction")
    references = dict.fromkeys(map(str, record.get("answers", ())))
    expected = record.get("suffix") or " | ".join(references)
    score, right = None if main is None else main.of(record), None
    if main and score is not None and answer is not None and not main.lower_is_better:
        right = score >= 0.5
    return ShownRecord(
        prompt=record.get("prefix", ""),
        answer=answer,
        expected=expected,
        score=score,
        right=right,
    )


def picture_of(image: Any, side: int) -> np.ndarray:
    """Returns an example's image as uint8 [H, W, 3]; of several images or frames, a mosaic.

    Args:
      image: encoded bytes, uint8 [H, W, 3], frames [F, H, W, 3], or a list of these.
      side: the most pixels of the longer side.
    """
    parts = _parts(image)
    height, width = (max(part.shape[axis] for part in parts) for axis in (0, 1))
    columns = math.ceil(math.sqrt(len(parts)))
    mosaic = Image.new("RGB", (columns * width, -(-len(parts) // columns) * height))
    for i, part in enumerate(parts):
        padded = ImageOps.pad(Image.fromarray(part), (width, height), color="white")
        mosaic.paste(padded, (i % columns * width, i // columns * height))
    mosaic.thumbnail((side, side))
    return np.asarray(mosaic)


def _parts(image: Any) -> list[np.ndarray]:
    """The images, uint8 [H, W, 3] each."""
    if isinstance(image, list | tuple):
        return [part for each in image for part in _parts(each)]
    whole = decode_image(image) if isinstance(image, bytes) else as_rgb(np.asarray(image))
    return list(whole) if whole.ndim == 4 else [whole]
