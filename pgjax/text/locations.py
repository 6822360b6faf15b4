"""Objects as text: `<loc0256><loc0064><loc0768><loc0512> cat ; <loc…` (arXiv:2407.07726).

Four location tokens are y_min, x_min, y_max, x_max in 1024ths of the image's height and width; 16
tokens `<seg000>`…`<seg127>` may follow, the codes of the mask inside the box; then comes the
label, and ` ; ` separates objects.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pgjax.errors import DataError

BINS = 1024
CODES, CODEBOOK = 16, 128  # codes of a mask, and how many different ones there are

_OBJECT = re.compile(
    r"\s*" + r"<loc([0-9]{4})>\s*" * 4 + r"((?:<seg[0-9]{3}>\s*)*)" + r"([^<>]*)", re.DOTALL
)


class Box(NamedTuple):
    """A labelled box; coordinates are fractions of the image's height and width, 0..1.

    `codes` are the 16 codes of the mask inside it, or none.
    """

    y0: float
    x0: float
    y1: float
    x1: float
    label: str
    codes: tuple[int, ...] = ()


def parse_boxes(text: str) -> list[Box]:
    """Reads the boxes in a model's answer.

    What is not exactly four location tokens in range and a label, or has no area, is left out, and
    so are segmentation tokens that are not 16 in range: a model may say anything.

    Args:
      text: decoded answer.

    Returns:
      Boxes in the order of the text, coordinates in 0..1023/1024.
    """
    boxes = []
    for part in text.split(";"):
        if match := _OBJECT.fullmatch(part):
            *tokens, mask, label = match.groups()
            y0, x0, y1, x1 = map(int, tokens)
            codes = tuple(map(int, re.findall(r"[0-9]{3}", mask)))
            if len(codes) != CODES or max(codes) >= CODEBOOK:
                codes = ()
            if y0 < y1 < BINS and x0 < x1 < BINS:
                edges = (v / BINS for v in (y0, x0, y1, x1))
                boxes.append(Box(*edges, label.strip(), codes))
    return boxes


def format_boxes(
    boxes: Iterable[Sequence[float]],
    labels: Iterable[str],
    codes: Iterable[Sequence[int]] | None = None,
) -> str:
    """Writes boxes and their labels as the text that `parse_boxes` reads.

    Args:
      boxes: [N, 4], (y0, x0, y1, x1) in 0..1, rounded to the nearest 1024th (1.0 becomes 1023).
      labels: [N].
      codes: [N, 16] of their masks; None for boxes alone.

    Returns:
      The objects joined by ` ; `; an empty string for none.

    Raises:
      DataError: a box outside 0..1 (pixels?) or without area, codes that are not 16 in 0..127, or
        unequal numbers of boxes, labels and codes.
    """
    boxes, labels = list(boxes), list(labels)
    if len(boxes) != len(labels):
        raise DataError(f"Got {len(boxes)} boxes and {len(labels)} labels, expected as many.")
    masks = [()] * len(boxes) if codes is None else [_check_codes(c) for c in codes]
    if len(masks) != len(boxes):
        raise DataError(f"Got {len(boxes)} boxes and {len(masks)} masks, expected as many.")
    parts = []
    for (y0, x0, y1, x1), label, mask in zip(boxes, labels, masks, strict=True):
        if not (0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1):
            raise DataError(
                f"Box of '{label}' is y0={y0:g} x0={x0:g} y1={y1:g} x1={x1:g}, expected fractions "
                "of the image: 0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1."
            )
        tokens = "".join(f"<loc{min(round(v * BINS), BINS - 1):04d}>" for v in (y0, x0, y1, x1))
        tokens += "".join(f"<seg{code:03d}>" for code in mask)
        parts.append(f"{tokens} {label}".rstrip())
    return " ; ".join(parts)


def _check_codes(codes: Sequence[int]) -> Sequence[int]:
    if len(codes) != CODES or not all(0 <= code < CODEBOOK for code in codes):
        raise DataError(f"Codes of a mask are {list(codes)}, expected 16 in 0..127.")
    return codes
