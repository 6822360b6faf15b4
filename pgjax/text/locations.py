"""Boxes as text: `<loc0256><loc0064><loc0768><loc0512> cat ; <loc…` (PaliGemma, arXiv:2407.07726).

Four location tokens are y_min, x_min, y_max, x_max in 1024ths of the image's height and width;
the label follows, and ` ; ` separates objects.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pgjax.errors import DataError

BINS = 1024

_OBJECT = re.compile(
    r"\s*" + r"<loc([0-9]{4})>\s*" * 4 + r"(?:<seg[0-9]{3}>\s*)*" + r"([^<>]*)", re.DOTALL
)


class Box(NamedTuple):
    """A labelled box; coordinates are fractions of the image's height and width, 0..1."""

    y0: float
    x0: float
    y1: float
    x1: float
    label: str


def parse_boxes(text: str) -> list[Box]:
    """Reads the boxes in a model's answer.

    Segmentation tokens between the location tokens and the label are passed over. What is not
    exactly four location tokens in range and a label, or has no area, is left out: a model may
    say anything.

    Args:
      text: decoded answer.

    Returns:
      Boxes in the order of the text, coordinates in 0..1023/1024.
    """
    boxes = []
    for part in text.split(";"):
        if match := _OBJECT.fullmatch(part):
            *tokens, label = match.groups()
            y0, x0, y1, x1 = map(int, tokens)
            if y0 < y1 < BINS and x0 < x1 < BINS:
                boxes.append(Box(y0 / BINS, x0 / BINS, y1 / BINS, x1 / BINS, label.strip()))
    return boxes


def format_boxes(boxes: Iterable[Sequence[float]], labels: Iterable[str]) -> str:
    """Writes boxes and their labels as the text that `parse_boxes` reads.

    Args:
      boxes: [N, 4], (y0, x0, y1, x1) in 0..1, rounded to the nearest 1024th (1.0 becomes 1023).
      labels: [N].

    Returns:
      The objects joined by ` ; `; an empty string for none.

    Raises:
      DataError: a box outside 0..1 (pixels?) or without area, or unequal numbers of boxes and
        labels.
    """
    boxes, labels = list(boxes), list(labels)
    if len(boxes) != len(labels):
        raise DataError(f"Got {len(boxes)} boxes and {len(labels)} labels, expected as many.")
    parts = []
    for (y0, x0, y1, x1), label in zip(boxes, labels, strict=True):
        if not (0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1):
            raise DataError(
                f"Box of '{label}' is y0={y0:g} x0={x0:g} y1={y1:g} x1={x1:g}, expected fractions "
                "of the image: 0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1."
            )
        tokens = "".join(f"<loc{min(round(v * BINS), BINS - 1):04d}>" for v in (y0, x0, y1, x1))
        parts.append(f"{tokens} {label}".rstrip())
    return " ; ".join(parts)
