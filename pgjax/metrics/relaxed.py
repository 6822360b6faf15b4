"""Relaxed accuracy, which allows numbers read from charts to be off by 5 %.

Defined by Methani et al., "PlotQA" (arXiv:1909.00997), and Masry et al., "ChartQA"
(arXiv:2203.10244): a number is right if it is within 5 % of the reference, other text if it equals
the reference.
"""

import math

from pgjax.metrics.exact_match import references
from pgjax.registry import METRICS

TOLERANCE = 0.05


def number(text: str) -> float | None:
    """Returns the number that a text stands for, with percents as fractions, or None."""
    try:
        if text.endswith("%"):
            return float(text.rstrip("%")) / 100
        return float(text)
    except ValueError:
        return None


def is_close(prediction: str, reference: str) -> bool:
    """Returns whether an answer is right, by value for two numbers and literally for other text.

    As published, a reference of zero has to be matched literally ("0.0" does not match "0"), and
    infinite values and NaN match no number.
    """
    got, expected = number(prediction), number(reference)
    if got is None or not expected:
        return prediction == reference
    return math.isfinite(got) and abs(got - expected) / abs(expected) <= TOLERANCE


@METRICS.register("relaxed_accuracy", main="acc")
def relaxed_accuracy(prediction: str, meta: dict, *, lower: bool = False) -> dict[str, float]:
    """Scores an answer read from a chart.

    The score of ChartQA is the mean over its human and its augmented questions; its test set has
    equally many of both.

    Args:
      prediction: the decoded answer.
      meta: holds the references: `answers` (a match with any of them counts), or `suffix`.
      lower: whether to ignore the case of text.

    Returns:
      `acc` with the tolerance and `exact` without it, each 0.0 or 1.0, or an empty dict for an
      example without references.
    """
    answers = references(meta)
    if not answers:
        return {}
    if lower:
        prediction, answers = prediction.lower(), [answer.lower() for answer in answers]
    relaxed = any(is_close(prediction, answer) for answer in answers)
    return {"acc": float(relaxed), "exact": float(prediction in answers)}
