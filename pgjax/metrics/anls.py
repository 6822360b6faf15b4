"""ANLS: average normalised Levenshtein similarity, for answers read from documents and scenes.

Biten et al., "Scene Text Visual Question Answering" (arXiv:1905.13648), eq. 1: with the distance NL
between prediction and reference, divided by the longer one's length, an answer scores 1 − NL if
NL < ½ and else 0; the best of its references counts.
"""

from pgjax.metrics.exact_match import references
from pgjax.registry import METRICS


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance: insertions, deletions and substitutions of one character."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def similarity(a: str, b: str) -> float:
    """1 − NL in ½..1, or 0 from NL = ½ on."""
    distance = edit_distance(a, b) / max(len(a), len(b), 1)
    return 1 - distance if distance < 0.5 else 0.0


@METRICS.register("anls", main="anls")
def anls(prediction: str, meta: dict, *, lower: bool = False) -> dict[str, float]:
    """Scores an answer that may contain small errors of reading.

    Args:
      prediction: decoded answer.
      meta: `answers` (the best counts), or `suffix`.
      lower: compare in lower case.

    Returns:
      `anls` in 0..1; nothing for an example without references.
    """
    answers = references(meta)
    if not answers:
        return {}
    if lower:
        prediction, answers = prediction.lower(), [answer.lower() for answer in answers]
    return {"anls": max(similarity(prediction, answer) for answer in answers)}
