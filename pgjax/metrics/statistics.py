"""Confidence intervals of mean scores, and tests of whether two runs differ.

Intervals are percentiles of the bootstrap over questions (Efron & Tibshirani, "An Introduction to
the Bootstrap", 1993, ch. 13), which draws as many questions as there are, with replacement. Two
runs on the same questions are compared question by question, which removes the variance that the
questions contribute. Answers that are right or wrong are compared by McNemar's exact test
(Psychometrika 12, 1947).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from pgjax.errors import UserError

_DRAWS_AT_ONCE = 1 << 22  # the number of drawn questions that are held in memory at a time

Scores = Float64[np.ndarray, "n"]
Means = Float64[np.ndarray, "resamples"]


class Interval(NamedTuple):
    """A mean score with the ends of its confidence interval, in the unit of the scores."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """The difference a − b between two runs on the same questions.

    Attributes:
      mean: the mean difference, in the unit of the scores.
      low: the lower end of its confidence interval.
      high: the upper end of its confidence interval.
      p_value: the two-sided p-value of the hypothesis that both runs have the same mean.
      better: the number of questions on which a scores higher than b.
      worse: the number of questions on which a scores lower than b.
    """

    mean: float
    low: float
    high: float
    p_value: float
    better: int
    worse: int


def confidence_interval(
    scores: Sequence[float], *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Computes the mean of per-question scores and its bootstrap confidence interval.

    Args:
      scores: [n], one per question.
      level: the confidence level, between 0 and 1.
      resamples: the number of bootstrap means to draw.
      seed: the seed of the draws; the same seed gives the same interval.

    Returns:
      The mean and the ends of the percentile interval, in the unit of the scores.

    Raises:
      UserError: there are no scores, some are not finite, or the level is not between 0 and 1.
    """
    values = _as_scores(scores, "scores")
    low, high = _percentiles(_bootstrap_means(values, resamples, seed), level)
    return Interval(float(values.mean()), low, high)


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Compares two runs on the same questions.

    If all scores are 0 or 1, the p-value is that of McNemar's exact test: on each question on which
    the runs disagree, either one is right with probability ½. Otherwise it is that of the paired
    bootstrap: the share of resampled differences, shifted to mean 0, that are at least as large in
    magnitude as the measured one.

    Args:
      a: [n], the scores of one run.
      b: [n], the scores of the other run, for the same questions in the same order.
      level: the confidence level, between 0 and 1.
      resamples: the number of bootstrap means to draw.
      seed: the seed of the draws; the same seed gives the same result.

    Returns:
      The mean difference a − b, its confidence interval and p-value, and counts of questions.

    Raises:
      UserError: the runs have different numbers of scores, there are no scores, some are not
        finite, or the level is not between 0 and 1.
    """
    first, second = _as_scores(a, "a"), _as_scores(b, "b")
    if len(first) != len(second):
        raise UserError(
            f"The compared runs have {len(first)} and {len(second)} scores, expected as many of "
            "both, for the same questions."
        )
    difference = first - second
    means = _bootstrap_means(difference, resamples, seed)
    low, high = _percentiles(means, level)
    mean = float(difference.mean())
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    if np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all():
        p_value = mcnemar(better, worse)
    else:
        # Counting one more avoids p = 0, which no finite number of draws can establish.
        beyond = int((np.abs(means - mean) >= abs(mean) * (1 - 1e-12)).sum())
        p_value = (beyond + 1) / (resamples + 1)
    return Difference(mean, low, high, p_value, better, worse)


def mcnemar(better: int, worse: int) -> float:
    """Returns the p-value of McNemar's exact test, two-sided, by the binomial with probability ½.

    Args:
      better: the number of questions that only the one run answers right.
      worse: the number of questions that only the other run answers right.
    """
    n = better + worse
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
        for k in range(min(better, worse) + 1)
    ]
    return min(1.0, 2 * math.fsum(map(math.exp, logs)))


def _as_scores(values: Sequence[float], name: str) -> Scores:
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
        raise UserError(
            f"Statistics of '{name}' need a list of at least one score, all finite, got the shape "
            f"{scores.shape} with {int((~np.isfinite(scores)).sum())} that are not finite."
        )
    return scores


def _bootstrap_means(values: Scores, resamples: int, seed: int) -> Means:
    """Draws as many values as there are, with replacement, and returns the mean of each draw."""
    rng = np.random.default_rng(seed)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= 64:  # Only the number of times that each value is drawn matters.
        draws = rng.multinomial(len(values), counts / len(values), size=resamples)
        return draws @ distinct / len(values)
    rows = max(1, _DRAWS_AT_ONCE // len(values))
    means = [
        values[rng.integers(len(values), size=(min(rows, resamples - i), len(values)))].mean(axis=1)
        for i in range(0, resamples, rows)
    ]
    return np.concatenate(means)


def _percentiles(means: Means, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise UserError(f"The confidence level is {level}, expected a number between 0 and 1.")
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
