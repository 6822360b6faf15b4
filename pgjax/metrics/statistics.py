"""How sure a mean over questions is, and whether two runs differ; numpy only.

Intervals are percentiles of the bootstrap over questions (Efron & Tibshirani, "An Introduction to
the Bootstrap", 1993, ch. 13): questions are drawn with replacement, as many as there are. Two runs
on the same questions are compared pair by pair, which removes what the questions have in common;
for right or wrong answers there is the exact test of McNemar (Psychometrika 12, 1947) as well.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pgjax.errors import UserError

_DRAWS_AT_ONCE = 1 << 22  # question draws held in memory


class Interval(NamedTuple):
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """Run a less run b on the same questions.

    `mean`, `low`, `high`: of a − b. `p_value`: two-sided, of the hypothesis that both are the
    same. `better`, `worse`: on how many questions a scores above and below b.
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
    """The mean of per-question scores, and where it would lie on other questions of the kind.

    Args:
      scores: [N], one per question.
      level: of confidence, in 0..1.
      resamples: bootstrap means to draw.
      seed: the same seed gives the same interval.

    Returns:
      The mean and the ends of the percentile interval, in the unit of the scores.

    Raises:
      UserError: no scores, scores that are not finite, or a level outside 0..1.
    """
    scores = _scores(scores, "scores")
    low, high = _percentiles(_bootstrap_means(scores, resamples, seed), level)
    return Interval(float(scores.mean()), low, high)


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Compares two runs on the same questions.

    The p-value is McNemar's exact test where all scores are 0 or 1 (of the questions on which the
    runs disagree, each is right with probability ½), else the paired bootstrap's: twice the share
    of resampled differences, shifted to mean 0, beyond the one measured.

    Args:
      a: [N], scores of one run.
      b: [N], of the other, in the same order of questions.
      level: of confidence, in 0..1.
      resamples: bootstrap means to draw.
      seed: the same seed gives the same result.

    Raises:
      UserError: unequal numbers of scores, none, not finite ones, or a level outside 0..1.
    """
    a, b = _scores(a, "a"), _scores(b, "b")
    if len(a) != len(b):
        raise UserError(
            f"Compared runs have {len(a)} and {len(b)} scores, expected the same questions."
        )
    difference = a - b
    means = _bootstrap_means(difference, resamples, seed)
    low, high = _percentiles(means, level)
    mean = float(difference.mean())
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    if np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all():
        p_value = mcnemar(better, worse)
    else:
        # One more than counted, so that no finite number of draws claims p = 0.
        beyond = int((np.abs(means - mean) >= abs(mean) * (1 - 1e-12)).sum())
        p_value = (beyond + 1) / (resamples + 1)
    return Difference(mean, low, high, p_value, better, worse)


def mcnemar(better: int, worse: int) -> float:
    """The two-sided exact p-value of `better` against `worse` disagreements, binomial with ½."""
    n = better + worse
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
        for k in range(min(better, worse) + 1)
    ]
    return min(1.0, 2 * math.fsum(map(math.exp, logs)))


def _scores(values: Sequence[float], name: str) -> np.ndarray:
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
        raise UserError(
            f"Statistics of '{name}' need a list of at least one finite score, got shape "
            f"{scores.shape} with {int((~np.isfinite(scores)).sum())} that are not finite."
        )
    return scores


def _bootstrap_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """float64 [resamples]: means of as many values, drawn with replacement."""
    rng = np.random.default_rng(seed)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= 64:  # How often each value is drawn is all that matters.
        draws = rng.multinomial(len(values), counts / len(values), size=resamples)
        return draws @ distinct / len(values)
    rows = max(1, _DRAWS_AT_ONCE // len(values))
    means = [
        values[rng.integers(len(values), size=(min(rows, resamples - i), len(values)))].mean(axis=1)
        for i in range(0, resamples, rows)
    ]
    return np.concatenate(means)


def _percentiles(means: np.ndarray, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise UserError(f"A confidence level is between 0 and 1, got {level}.")
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
