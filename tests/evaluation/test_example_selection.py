"""Cases to look at, and two runs compared, against brute force."""

import math
import random

import numpy as np
import pytest

from pgjax.errors import UserError
from pgjax.evaluation.compare import compare
from pgjax.evaluation.example_selection import breakdown, choose, same_questions
from pgjax.evaluation.main_score import MainScore, main_score
from pgjax.evaluation.score_table import Row
from pgjax.evaluation.stored_evaluation import StoredEvaluation


def scored(*scores, **more):
    return [{"index": i, "scores": {"acc": s}, **more} for i, s in enumerate(scores)]


ACC = MainScore("acc")


def test_main_score():
    assert main_score("answers", {"name": "exact_match"}) == ACC
    assert main_score("answers", {"name": "mmvp", "lower": False}) == MainScore("acc_single")
    loss = main_score("perplexity", {"name": "exact_match"})
    record = {"scores": {"_tokens": 3, "acc/a": 1, "acc": 0, "loss": 2.0}}
    assert (loss.of(record), loss.gain(record)) == (2.0, -2.0)
    assert (ACC.of(record), ACC.gain(record)) == (0, 0)
    assert ACC.gain({"scores": {"_loss": 1}}) is None
    with pytest.raises(UserError, match="did you mean 'exact_match'"):
        main_score("answers", {"name": "exactmatch"})


def test_best_worst_and_random():
    rng = random.Random(1)
    values = [rng.choice([0.0, 0.3, 0.5, 1.0]) for _ in range(100)]
    records = [*scored(*values), {"index": 100, "scores": {}}]
    found = choose([iter(records)], ACC, 20)
    best, worst = ([values[i] for i in found[k]] for k in ("best", "worst"))
    assert best == sorted(values, reverse=True)[:20] and worst == sorted(values)[:20]
    chosen = [i for some in found.values() for i in some]
    assert len(chosen) == len(set(chosen)) == 60 and found["differing"] == []
    assert choose([records], ACC, 20) == found != choose([records], ACC, 20, seed=1)
    losses = [{"index": i, "scores": {"loss": x}} for i, x in enumerate((3.0, 1.0, 2.0))]
    assert choose([losses], MainScore("loss", True), 1)["best"] == [1]


def test_few_examples_are_neither_best_nor_worst_at_once():
    none = {"differing": [], "worst": [], "best": []}
    assert choose([scored(1.0)], ACC, 5) == {**none, "random": [0]}
    found = choose([scored(1.0, 0.0, 1.0, 0.0, 0.0)], ACC, 5)
    assert {k: sorted(v) for k, v in found.items()} == {
        "differing": [], "worst": [1, 3, 4], "best": [0, 2], "random": [],
    }  # fmt: skip
    assert choose([scored(1.0, 0.0, 1.0)] * 2, ACC, 0) == {**none, "random": []}


def test_examples_on_which_runs_differ_come_first():
    a, b = scored(1.0, 0.5, 0.0, 0.2, 1.0), scored(0.0, 0.4, 0.0, 0.2)
    found = choose([a, b], ACC, 2)
    assert found == {"differing": [0, 1], "worst": [2, 3], "best": [4], "random": []}


def test_breakdown():
    records = [{"kind": k, "scores": {"acc": s}} for k, s in [("b", 0), ("a", 1), ("a", 0)]]
    assert breakdown([*records, {"scores": {"acc": 1}}], ACC, "kind") == {"a": [1, 0], "b": [0]}


def test_same_questions_by_what_identifies_them():
    a = [{"index": i, "question_id": q, "image_id": 1} for i, q in enumerate("xyz")]
    b = [{"index": i, "question_id": q, "image_id": 1} for i, q in enumerate("zwx")]
    assert same_questions(a, b) == [(0, 2), (2, 0)]
    for record in b:
        del record["question_id"]
    assert same_questions(a, b) == [(0, 0), (1, 1), (2, 2)]  # images are not of one question each
    a, b = ([{**r, "question_id": 5} for r in rows] for rows in (a, b))
    assert same_questions(a, b[1:]) == [(1, 0), (2, 1)]


def stored(records):
    return StoredEvaluation({}, {}, {}, records, ACC)


def test_two_runs():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, 60).astype(float)
    y = np.where(rng.random(60) < 0.3, 1 - x, x)
    a = [{"question_id": i, "scores": {"acc": v, "only_a": 1.0}} for i, v in enumerate(x)]
    b = [{"question_id": i, "scores": {"acc": v}} for i, v in enumerate(y)][::-1]
    rows, differing = compare({"e": stored(a), "f": stored([])}, {"e": stored(b[:-10])})
    [row] = rows  # of the 50 questions that both have
    x, y = x[10:], y[10:]
    assert (row.evaluation, row.score, row.questions) == ("e", "acc", 50)
    assert (row.a, row.b) == pytest.approx((x.mean(), y.mean()))
    better, worse = int((x > y).sum()), int((x < y).sum())
    n = better + worse
    tail = sum(math.comb(n, k) for k in range(min(better, worse) + 1)) / 2**n
    assert row.difference.p_value == pytest.approx(min(1.0, 2 * tail))
    means = [(x - y)[rng.integers(50, size=50)].mean() for _ in range(4000)]
    assert row.difference.low == pytest.approx(np.quantile(means, 0.025), abs=0.03)
    assert row.cells()[2:5] == ("50", f"{x.mean():.4f}", f"{y.mean():.4f}")
    assert len(differing["e"]) == n
    signs = [a[i]["scores"]["acc"] - b[j]["scores"]["acc"] for i, j in differing["e"]]
    assert signs == sorted(signs, reverse=True)
    assert all(a[i]["question_id"] == b[j]["question_id"] for i, j in differing["e"])
    with pytest.raises(UserError, match=r"no evaluation in common: \['e'\] and \['g'\]"):
        compare({"e": stored([])}, {"g": stored([])})
    with pytest.raises(UserError, match="no question of e in common"):
        compare({"e": stored(a[:5])}, {"e": stored(b[:5])})


def test_cells_of_a_score_that_is_missing():
    row = Row("c", "b", "e", "acc", None, None, 85.64, "test", True)
    assert row.cells() == ("c", "b", "e", "acc", "", "", "85.64", "", "test")
