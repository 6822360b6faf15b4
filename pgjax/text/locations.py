"""Reads and writes objects as text, such as `<loc0256><loc0064><loc0768><loc0512> cat ; <loc…`.

This is the format of PaliGemma (arXiv:2407.07726). The four location tokens of an object are y_min,
x_min, y_max and x_max in 1024ths of the image's height and width. They may be followed by 16 tokens
`<seg000>` … `<seg127>`, the codes of the mask inside the box. Then comes the label. Objects are
separated by ` ; `.
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pgjax.errors import DataError

BINS = 1024  # the number of location tokens
CODES = 16  # the number of codes of a mask
CODEBOOK = 128  # the number of different codes

# An object begins with location tokens. Repetitions are possessive, and none is followed by what it
# could also match, so that reading takes time in proportion to the length of the text.
# Without possessive quantifiers, which lose characters in Python 3.11.0 to 3.11.4 (gh-106052).
_BEGIN = re.compile(r"(?:<loc[0-9]{4}>\s*)+")
_MASK = re.compile(r"(?:<seg[0-9]{3}>\s*)*")
_SHORT_BOX = re.compile(r"<loc(\d{4})>\s*" * 4)
_SHORT_MASK = re.compile(r"(?:<seg\d{3}>\s*){16}")
_NUMBER = re.compile(r"[0-9]+")
_RESERVED = re.compile(r"[<>;\n]")


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


def parse_boxes(text: str, *, mend: bool = True) -> list[Box]:
    """Reads the boxes in a model's answer.

    An object reaches from its location tokens to ` ; ` or to the next object, so that objects are
    also found where the ` ; ` between them is missing. Objects without exactly four location tokens
    in range, or with a `<` or `>` in the label, are skipped. Segmentation tokens that are not
    exactly 16 in range are ignored.

    Args:
      text: the decoded answer.
      mend: whether edges may come in either order (supervision keeps such objects as well), and a
        box without width or height counts as one bin wide or high; False skips both.

    Returns:
      The boxes in the order of the text, with coordinates in 0..1023/1024.
    """
    boxes: list[Box] = []
    begins = list(_BEGIN.finditer(text))
    for i, begin in enumerate(begins):
        end = begins[i + 1].start() if i + 1 < len(begins) else len(text)
        edges = [int(edge) for edge in _NUMBER.findall(begin[0])]
        mask = _MASK.match(text, begin.end(), end)
        assert mask is not None  # it also matches the empty text
        label = text[mask.end() : end].split(" ; ", 1)[0].strip().removesuffix(";").strip()
        if len(edges) != 4 or max(edges) >= BINS or "<" in label or ">" in label:
            continue
        if not mend and (edges[0] >= edges[2] or edges[1] >= edges[3]):
            continue
        codes = tuple(map(int, _NUMBER.findall(mask[0])))
        if len(codes) != CODES or max(codes) >= CODEBOOK:
            codes = ()
        y0, y1 = _with_extent(edges[0], edges[2])
        x0, x1 = _with_extent(edges[1], edges[3])
        boxes.append(Box(y0 / BINS, x0 / BINS, y1 / BINS, x1 / BINS, label, codes))
    return boxes


def shortened(text: str) -> str:
    """Writes four location tokens as `[1 2 3 4] `, and the 16 codes of a mask as `(mask) `."""
    return _SHORT_MASK.sub("(mask) ", _SHORT_BOX.sub(r"[\1 \2 \3 \4] ", text))


def count_locations(text: str) -> int:
    """Returns the number of location tokens `<loc0000>` … `<loc1023>` in a text."""
    return sum(int(n) < BINS for n in re.findall(r"<loc([0-9]{4})>", text))


def _with_extent(a: int, b: int) -> tuple[int, int]:
    """Puts two edges, in bins, into order, and one bin apart where they are equal."""
    low, high = min(a, b), max(a, b)
    if low == high:
        low = min(low, BINS - 2)
        high = low + 1
    return low, high


def to_bins(low: float, high: float) -> tuple[int, int]:
    """Returns the location tokens, 0..1023, of the two edges of a box along one axis.

    Args:
      low: the nearer edge, in 0..1.
      high: the farther edge, in 0..1 and above `low`.

    Returns:
      The edges rounded to the nearest 1024th, where 1.0 becomes 1023. Where both round to the same
      one, they are the edges of the bin that holds the middle of the box.
    """
    a, b = (min(round(v * BINS), BINS - 1) for v in (low, high))
    if a == b:
        a = min(int((low + high) / 2 * BINS), BINS - 2)
        b = a + 1
    return a, b


def format_boxes(
    boxes: Iterable[Sequence[float]],
    labels: Iterable[str],
    codes: Iterable[Sequence[int]] | None = None,
) -> str:
    """Writes boxes and their labels as the text that `parse_boxes` reads.

    Args:
      boxes: [n, 4], (y0, x0, y1, x1) in 0..1, which `to_bins` rounds.
      labels: [n] labels.
      codes: [n, 16] codes of the masks, or None for boxes without masks.

    Returns:
      The objects joined by ` ; `, or an empty string if there are none.

    Raises:
      DataError: a box is outside of 0..1 (which pixels would be) or has no area, a label is no text
        or would not be read back as it is, codes are not 16 in 0..127, or the numbers of boxes,
        labels and codes differ.
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
        _check_label(label)
        tokens = _location(y0, x0, y1, x1) + "".join(f"<seg{code:03d}>" for code in mask)
        parts.append(f"{tokens} {label}".rstrip())
    return " ; ".join(parts)


def _location(y0: float, x0: float, y1: float, x1: float) -> str:
    (top, bottom), (left, right) = to_bins(y0, y1), to_bins(x0, x1)
    return "".join(f"<loc{v:04d}>" for v in (top, left, bottom, right))


def parse_words(text: str) -> list[Box]:
    """Reads the words that `format_words` writes, with their boxes.

    Unlike a label, a word reaches to the location tokens that follow, whatever it holds. Words
    without exactly four location tokens in range are skipped.

    Args:
      text: the decoded answer.

    Returns:
      The words as labels of boxes, in the order of the text, with coordinates in 0..1023/1024.
    """
    words: list[Box] = []
    begins = list(_BEGIN.finditer(text))
    for begin, after in itertools.zip_longest(begins, begins[1:]):
        edges = [int(edge) for edge in _NUMBER.findall(begin[0])]
        if len(edges) != 4 or max(edges) >= BINS:
            continue
        word = text[begin.end() : after.start() if after else None].strip()
        word = word.removesuffix(";").rstrip() if after else word
        (y0, y1), (x0, x1) = _with_extent(edges[0], edges[2]), _with_extent(edges[1], edges[3])
        words.append(Box(y0 / BINS, x0 / BINS, y1 / BINS, x1 / BINS, word))
    return words


def format_words(boxes: Iterable[Sequence[float]], words: Iterable[str]) -> str:
    """Writes words and where they are, as the text that `parse_words` reads.

    Args:
      boxes: [n, 4], (y0, x0, y1, x1) in 0..1 and of some extent, which `to_bins` rounds.
      words: [n] texts of one line, without location tokens.

    Returns:
      `<loc0256><loc0064><loc0768><loc0512> word`, joined by ` ; `.
    """
    return " ; ".join(f"{_location(*box)} {word}" for box, word in zip(boxes, words, strict=True))


def clean_label(name: object) -> str:
    """Makes a name that can stand in an answer, and be read back from it, as it is.

    White space around a name is removed, and inside it becomes single spaces; `;`, which separates
    objects, becomes `,`; `<` and `>`, which belong to tokens, are left out. Numbers become text.

    Raises:
      DataError: the name is neither text nor a number, or nothing is left of it.
    """
    if isinstance(name, bool) or not isinstance(name, str | int | float):
        raise DataError(f"the name {name!r} is a {type(name).__name__}, expected text.")
    text = " ".join(re.sub("[<>]", "", str(name)).replace(";", ",").split())
    if not text.isprintable() or not text.strip(", "):
        raise DataError(f"the name {name!r} has no text, or characters that cannot be written.")
    return text


def _check_label(label: object) -> None:
    if not isinstance(label, str) or label != label.strip() or _RESERVED.search(label):
        raise DataError(
            f"The label {label!r} would not be read back as it is: expected text without '<', '>', "
            "';' or line breaks, and without white space around it."
        )


def _check_codes(codes: Sequence[int]) -> Sequence[int]:
    if len(codes) != CODES or not all(0 <= code < CODEBOOK for code in codes):
        raise DataError(
            f"The codes of a mask are {list(codes)}, expected {CODES} in 0..{CODEBOOK - 1}."
        )
    return codes
