"""Precision, recall and F1 of words that are found and read, by the rules of two competitions.

"hiertext", which the PaliGemma 2 paper takes (Long et al., "ICDAR 2023 Competition on Hierarchical
Text Detection and Recognition", arXiv:2305.09750): word and answer are each other's best match by
IoU, which is at least ½, and equal in every character. An answer of which at least half lies in an
illegible word does not count.

"icdar" (Karatzas et al., "ICDAR 2015 Competition on Robust Reading", end-to-end, without a
lexicon): a word takes the first answer that no other has, with an IoU above ½, and is right if both
are equal but for case, and for a punctuation mark at either end of the word, which the answer may
leave out. An answer of which more than half lies in an illegible word does not count.
"""

import dataclasses
from collections.abc import Sequence

from pgjax.errors import DataError, UserError
from pgjax.registry import METRICS
from pgjax.text.locations import parse_words

PROTOCOLS = ("hiertext", "icdar")
_TINY = 1e-5  # square pixels that HierText's evaluator adds to what it divides by
_MARKS = "!?.:,*\"()·[]/'"  # what ICDAR's answers may leave out

Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]  # x0, y0, x1, y1


@dataclasses.dataclass
class Counts:
    """How many words there are, answers that count, pairs of both, and pairs that are right."""

    words: int = 0
    answers: int = 0
    found: int = 0
    right: int = 0

    def __iadd__(self, other: "Counts") -> "Counts":
        return Counts(*(a + b for a, b in zip(self.astuple(), other.astuple(), strict=True)))

    def astuple(self) -> tuple[int, int, int, int]:
        """The four numbers."""
        return self.words, self.answers, self.found, self.right

    def scores(self, hits: int, of_none: float = 1.0) -> tuple[float, float, float]:
        """Precision, recall and F1, given how many answers are right, and what none of none is."""
        precision = hits / self.answers if self.answers else of_none
        recall = hits / self.words if self.words else of_none
        both = precision + recall
        return precision, recall, 2 * precision * recall / both if both else 0.0


@METRICS.register("text_spotting", main="f1", corpus=True)
def text_spotting(
    records: Sequence[dict], *, protocol: str = "hiertext", polygons: bool = False
) -> dict[str, float]:
    """Scores answers that name words and their boxes, over all words of all images.

    Args:
      records: each holds `prediction`, as `pgjax.text.locations.parse_words` reads it, and the
        words of an image: `words` [N] texts, `legible` [N] bools, `outlines` [N] texts of
        coordinates "x0,y0,x1,y1,…" in pixels, and the image's `size` (height, width). Each gets its
        own `f1` in its `scores`.
      protocol: "hiertext" or "icdar", see the module.
      polygons: whether a word's place is its outline, as in both competitions, instead of the box
        around it, which is what answers consist of.

    Returns:
      `f1`, `precision` and `recall` of words, and `detection_f1` of their places alone, in 0..1. As
      in their code, the precision of no answer at all is 1 for HierText and 0 for ICDAR.

    Raises:
      UserError: the protocol is unknown.
      DataError: there are no records, or one lacks its words, or they are not as described.
    """
    if protocol not in PROTOCOLS:
        raise UserError(
            f"The metric text_spotting has no protocol {protocol!r}, expected one of "
            f"{', '.join(PROTOCOLS)}."
        )
    if not records:
        raise DataError("The metric text_spotting needs records, but there are none.")
    total = Counts()
    for record in records:
        counts = _counts(record, protocol, polygons)
        record.setdefault("scores", {})["f1"] = counts.scores(counts.right)[2]
        total += counts
    of_none = float(protocol == "hiertext")
    precision, recall, f1 = total.scores(total.right, of_none)
    detection = total.scores(total.found, of_none)[2]
    return {"f1": f1, "precision": precision, "recall": recall, "detection_f1": detection}


def _counts(record: dict, protocol: str, polygons: bool) -> Counts:
    """Counts the words of one image."""
    height, width = record["size"]
    answers = [
        ((b.x0 * width, b.y0 * height, b.x1 * width, b.y1 * height), b.label)
        for b in parse_words(record["prediction"])
    ]
    words, illegible = [], []
    each = zip(record["words"], record["legible"], record["outlines"], strict=True)
    for text, legible, outline in each:
        shape = _points(outline)
        shape = shape if polygons else _corners(shape)
        if legible:
            words.append((shape, text))
        else:
            illegible.append(shape)
    strict = protocol == "icdar"
    answers = [a for a in answers if not any(_inside(a[0], shape, strict) for shape in illegible)]
    ious = [[_iou(shape, box, 0 if strict else _TINY) for box, _ in answers] for shape, _ in words]
    pairs = _first(ious) if strict else _mutual(ious)
    equal = _icdar_equal if strict else str.__eq__
    right = sum(equal(words[i][1], answers[j][1]) for i, j in pairs)
    return Counts(len(words), len(answers), len(pairs), right)


def _mutual(ious: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pairs of words and answers that are each other's best match; of equals, the first."""
    pairs = []
    for i, row in enumerate(ious):
        if row:
            j = row.index(max(row))
            column = [other[j] for other in ious]
            if row[j] >= 0.5 and column.index(max(column)) == i:
                pairs.append((i, j))
    return pairs


def _first(ious: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pairs of words and the first answers that match them and are not taken."""
    taken: dict[int, int] = {}
    for i, row in enumerate(ious):
        if (j := next((j for j, v in enumerate(row) if v > 0.5 and j not in taken), -1)) >= 0:
            taken[j] = i
    return [(i, j) for j, i in taken.items()]


def _icdar_equal(word: str, answer: str) -> bool:
    word, answer = word.upper(), answer.upper()
    first, last = word[:1] in _MARKS, word[-1:] in _MARKS
    shorter = [word[1:]] * first + [word[:-1]] * last + [word[1:-1]] * (first and last)
    return answer in (word, *shorter)


def _points(outline: str) -> list[Point]:
    values = [float(v) for v in outline.split(",")]
    if len(values) < 6 or len(values) % 2:
        raise DataError(f"The outline {outline!r:.80} is no polygon, expected x0,y0,x1,y1,x2,y2,….")
    return list(zip(values[::2], values[1::2], strict=True))


def _corners(shape: Sequence[Point]) -> list[Point]:
    """The corners of the box around a polygon."""
    (x0, x1), (y0, y1) = ((min(vs), max(vs)) for vs in zip(*shape, strict=True))
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _area(shape: Sequence[Point]) -> float:
    """The area of a polygon that does not cross itself, by Gauss's formula."""
    after = [*shape[1:], *shape[:1]]
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(shape, after, strict=True))) / 2


def _common(shape: Sequence[Point], box: Rectangle) -> float:
    """The area of a polygon inside a box, of which each side cuts off what lies beyond it.

    (Sutherland and Hodgman, "Reentrant Polygon Clipping", 1974. What connects the parts of a
    polygon that falls apart runs along the side, and has no area.)
    """
    for axis, limit, sign in ((0, box[0], 1), (0, box[2], -1), (1, box[1], 1), (1, box[3], -1)):
        kept: list[Point] = []
        for a, b in zip([*shape[-1:], *shape[:-1]], shape, strict=True):
            depths = sign * (a[axis] - limit), sign * (b[axis] - limit)
            if min(depths) < 0 < max(depths):
                share = depths[0] / (depths[0] - depths[1])
                kept.append((a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])))
            if depths[1] >= 0:
                kept.append(b)
        shape = kept
    return _area(shape) if shape else 0.0


def _size(box: Rectangle) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _inside(box: Rectangle, shape: Sequence[Point], strict: bool) -> bool:
    """Whether half of a box, or more than half of it, lies in a polygon."""
    common = _common(shape, box)
    return common / _size(box) > 0.5 if strict else common / (_size(box) + _TINY) >= 0.5


def _iou(shape: Sequence[Point], box: Rectangle, tiny: float) -> float:
    common = _common(shape, box)
    union = _area(shape) + _size(box) - common + tiny
    return common / union if union > 0 else 0.0
