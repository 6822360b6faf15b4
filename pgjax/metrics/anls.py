"""ANLS (average normalised Levenshtein similarity) of answers read from documents and scenes.

Equation 1 of Biten et al., "Scene Text Visual Question Answering" (arXiv:1905.13648): let NL be the
edit distance between prediction and reference, divided by the length of the longer one. An answer
scores 1 − NL if NL < ½, and 0 otherwise. The reference with the highest score counts.
"""

from pgjax.metrics.exact_match import references
from pgjax.registry import METRICS


def edit_distance(a: str, b: str) -> int:
    """Returns the Levenshtein distance in single-character insertions, deletions, substitutions."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def similarity(a: str, b: str) -> float:
    """Returns 1 − NL, which is above ½, or 0 if NL is at least ½ (see the module)."""
    distance = edit_distance(a, b) / max(len(a), len(b), 1)
    return 1 - distance if distance < 0.5 else 0.0


@METRICS.register("anls", main="anls")
def anls(prediction: str, meta: dict, *, lower: bool = False) -> dict[str, float]:
    """Scores an answer that may contain small reading errors.

    Args:
      prediction: the decoded answer.
      meta: holds the references: `answers` (the best match counts), or `suffix`.
      lower: whether to ignore case.

    Returns:
      `anls` in 0..1, or an empty dict for an example without references.
    """
    answers = references(meta)
    if not answers:
        return {}
    if lower:
        prediction, answers = prediction.lower(), [answer.lower() for answer in answers]
    return {"anls": max(similarity(prediction, answer) for answer in answers)}
