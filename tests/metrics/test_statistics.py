"""Intervals and comparisons, against exact distributions and repeated experiments."""

import itertools
import math

import numpy as np
import pytest

from pgjax.errors import UserError
from pgjax.metrics.statistics import confidence_interval, mcnemar, paired_difference


def test_interval_of_three_questions_by_enumeration():
    """All 27 equally likely resamples of three questions."""
    scores = [0.0, 0.3, 1.0]
    means = np.sort([np.mean(draw) for draw in itertools.product(scores, repeat=3)])
    got = confidence_interval(scores, level=0.8, resamples=100_000)
    assert got.mean == pytest.approx(np.mean(scores))
    inverted = {q: means[math.ceil(27 * q) - 1] for q in (0.1, 0.9)}
    assert (got.low, got.high) == pytest.approx((inverted[0.1], inverted[0.9]))


def test_interval_of_many_values_is_the_normal_one():
    scores = np.random.default_rng(0).normal(2, 3, 5000)  # All distinct.
    got = confidence_interval(scores, resamples=4000)
    half = 1.96 * scores.std() / math.sqrt(len(scores))
    assert got.low == pytest.approx(scores.mean() - half, abs=half / 10)
    assert got.high == pytest.approx(scores.mean() + half, abs=half / 10)


def test_intervals_cover_what_they_claim():
    rng = np.random.default_rng(1)
    hits = 0
    for i in range(300):
        got = confidence_interval(rng.random(200) < 0.7, level=0.9, resamples=500, seed=i)
        hits += got.low <= 0.7 <= got.high
    assert 0.84 < hits / 300 < 0.96


def test_seeded():
    scores = np.random.default_rng(2).random(300)
    assert confidence_interval(scores, seed=3) == confidence_interval(scores, seed=3)
    assert confidence_interval(scores, seed=3) != confidence_interval(scores, seed=4)


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (1, 0), (5, 1), (12, 25), (3, 3), (0, 10)])
def test_mcnemar_by_counting(better, worse):
    n = better + worse
    tail = sum(math.comb(n, k) for k in range(min(better, worse) + 1)) / 2**n
    assert mcnemar(better, worse) == pytest.approx(min(1, 2 * tail))


def test_mcnemar_of_many_questions():
    assert mcnemar(60_000, 60_500) == pytest.approx(math.erfc(499 / math.sqrt(2 * 120_500)), 1e-3)


def test_paired_difference_of_right_and_wrong():
    a = np.array([1.0] * 70 + [0.0] * 30)
    b = np.array([1.0] * 55 + [0.0] * 15 + [1.0] * 5 + [0.0] * 25)
    got = paired_difference(a, b)
    assert (got.mean, got.better, got.worse) == (pytest.approx(0.1), 15, 5)
    assert got.p_value == mcnemar(15, 5)
    assert got.low < got.mean < got.high
    back = paired_difference(b, a)
    assert (back.mean, back.p_value) == (pytest.approx(-0.1), got.p_value)


def test_paired_difference_of_graded_scores():
    rng = np.random.default_rng(5)
    b = rng.random(400)
    same = paired_difference(b + rng.normal(0, 0.1, 400), b)
    other = paired_difference(b + 0.02 + rng.normal(0, 0.1, 400), b)
    assert same.p_value > 0.05 > 1e-3 > other.p_value
    assert other.low > 0
    z = other.mean / ((0.1) / math.sqrt(400))
    assert other.p_value == pytest.approx(math.erfc(z / math.sqrt(2)), abs=2e-3)
    assert paired_difference(b, b).p_value == 1


def test_what_cannot_be_compared():
    with pytest.raises(UserError, match="2 and 3 scores"):
        paired_difference([0.5, 1], [1, 1, 0.5])
    with pytest.raises(UserError, match="at least one score, all finite"):
        confidence_interval([])
    with pytest.raises(UserError, match="1 that are not finite"):
        confidence_interval([1.0, float("nan")])
    with pytest.raises(UserError, match="level is 95"):
        confidence_interval([1.0, 0.0], level=95)
