"""Reads and writes objects as text, such as `<loc0256><loc0064><loc0768><loc0512> cat ; <loc…`.

This is the format of PaliGemma (arXiv:2407.07726). The four location tokens of an object are y_min,
x_min, y_max and x_max in 1024ths of the image's height and width. They may be followed by 16 tokens
`<seg000>` … `<seg127>`, the codes of the mask inside the box. Then comes the label. Objects are
separated by ` ; `.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pgjax.errors import DataError

BINS = 1024  # the number of location tokens
CODES = 16  # the number of codes of a mask
CODEBOOK = 128  # the number of different codes

_OBJECT = re.compile(
    r"\s*" + r"<loc([0-9]{4})>\s*" * 4 + r"((?:<seg[0-9]{3}>\s*)*)" + r"([^<>]*)", re.DOTALL
)


class Box(NamedTuple):
    """A labelled box.

    Attributes:
      y0: the top edge, as a fraction 0..1 of the image's height.
      x0: the left edge, as a fraction 0..1 of the image's width.
      y1: the bottom edge, as a fraction of the height.
      x1: the right edge, as a fraction of the width.
      label: what the box holds.
      codes: the 16 codes of the mask inside the box, or none.
    """

    y0: float
    x0: float
    y1: float
    x1: float
    label: str
    codes: tuple[int, ...] = ()


def parse_boxes(text: str) -> list[Box]:
    """Reads the boxes in a model's answer.

    Objects without exactly four location tokens in range, or without an area, are skipped.
    Segmentation tokens that are not exactly 16 in range are ignored.

    Args:
      text: the decoded answer.

    Returns:
      The boxes in the order of the text, with coordinates in 0..1023/1024.
    """
    boxes: list[Box] = []
    for part in text.split(";"):
        if match := _OBJECT.fullmatch(part):
            *tokens, mask, label = match.groups()
            y0, x0, y1, x1 = map(int, tokens)
            codes = tuple(map(int, re.findall(r"[0-9]{3}", mask)))
            if len(codes) != CODES or max(codes) >= CODEBOOK:
                codes = ()
            if y0 < y1 < BINS and x0 < x1 < BINS:
                top, left, bottom, right = (v / BINS for v in (y0, x0, y1, x1))
                boxes.append(Box(top, left, bottom, right, label.strip(), codes))
    return boxes


def format_boxes(
    boxes: Iterable[Sequence[float]],
    labels: Iterable[str],
    codes: Iterable[Sequence[int]] | None = None,
) -> str:
    """Writes boxes and their labels as the text that `parse_boxes` reads.

    Args:
      boxes: [n, 4], (y0, x0, y1, x1) in 0..1; they are rounded to the nearest 1024th, and 1.0
        becomes 1023.
      labels: [n] labels.
      codes: [n, 16] codes of the masks, or None for boxes without masks.

    Returns:
      The objects joined by ` ; `, or an empty string if there are none.

    Raises:
      DataError: a box is outside of 0..1 (which pixels would be) or has no area, codes are not 16
        in 0..127, or the numbers of boxes, labels and codes differ.
    """
    boxes, labels = list(boxes), list(labels)
    if len(boxes) != len(labels):
        raise DataError(f"Got {len(boxes)} boxes and {len(labels)} labels, expected equal numbers.")
    masks: list[Sequence[int]] = [()] * len(boxes)
    if codes is not None:
        masks = [_check_codes(c) for c in codes]
    if len(masks) != len(boxes):
        raise DataError(f"Got {len(boxes)} boxes and {len(masks)} masks, expected equal numbers.")
    parts = []
    for (y0, x0, y1, x1), label, mask in zip(boxes, labels, masks, strict=True):
        if not (0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1):
            raise DataError(
                f"The box of '{label}' is y0={y0:g} x0={x0:g} y1={y1:g} x1={x1:g}, expected "
                "fractions of the image: 0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1."
            )
        tokens = "".join(f"<loc{min(round(v * BINS), BINS - 1):04d}>" for v in (y0, x0, y1, x1))
        tokens += "".join(f"<seg{code:03d}>" for code in mask)
        parts.append(f"{tokens} {label}".rstrip())
    return " ; ".join(parts)


def _check_codes(codes: Sequence[int]) -> Sequence[int]:
    if len(codes) != CODES or not all(0 <= code < CODEBOOK for code in codes):
        raise DataError(
            f"The codes of a mask are {list(codes)}, expected {CODES} in 0..{CODEBOOK - 1}."
        )
    return codes
