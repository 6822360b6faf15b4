"""Relaxed accuracy: numbers read from charts may be off by 5 %.

Methani et al., "PlotQA" (arXiv:1909.00997), and Masry et al., "ChartQA" (arXiv:2203.10244): a
number is right within 5 % of the reference, other text where it is equal.
"""

import math

from pgjax.metrics.exact_match import references
from pgjax.registry import METRICS

TOLERANCE = 0.05


def number(text: str) -> float | None:
    """The number that a text is, percents as fractions; None for other text."""
    try:
        if text.endswith("%"):
            return float(text.rstrip("%")) / 100
        return float(text)
    except ValueError:
        return None


def is_close(prediction: str, reference: str) -> bool:
    """Whether a prediction is right: numerically for two numbers, else literally.

    As published, a reference of zero has to be met literally ("0.0" is not "0"), and infinite or
    undefined numbers are never right.
    """
    got, expected = number(prediction), number(reference)
    if got is None or not expected:
        return prediction == reference
    return math.isfinite(got) and abs(got - expected) / abs(expected) <= TOLERANCE


@METRICS.register("relaxed_accuracy", main="acc")
def relaxed_accuracy(prediction: str, meta: dict, *, lower: bool = False) -> dict[str, float]:
    """Scores an answer read from a chart.

    ChartQA's score is the mean over its human and its augmented questions, as many in the test set.

    Args:
      prediction: decoded answer.
      meta: `answers` (any of them counts), or `suffix`.
      lower: compare text in lower case.

    Returns:
      `acc`, and without tolerance `exact`, each 0.0 or 1.0; nothing for an example without
      references.
    """
    answers = references(meta)
    if not answers:
        return {}
    if lower:
        prediction, answers = prediction.lower(), [answer.lower() for answer in answers]
    relaxed = any(is_close(prediction, answer) for answer in answers)
    return {"acc": float(relaxed), "exact": float(prediction in answers)}
