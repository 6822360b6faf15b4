"""Error rates of **kern, against the table of distances and, where installed, Levenshtein's."""

import random

import pytest

from pgjax.errors import DataError
from pgjax.metrics import get_metric
from pgjax.metrics.music import symbols

metric = get_metric("kern")
TRUTH = "**kern\t**kern\n4C 4E\t8cc#L\n.\t8ddJ\n*-\t*-"


def scores_of(rng):
    """A score and an answer, which differ in some symbols, lines or characters."""
    line = ["4C", "4E", "8cc#L", "8ddJ", ".", "=", "*-", "16r"]
    lines = [[rng.choice(line) for _ in range(rng.randint(1, 3))] for _ in range(rng.randint(1, 9))]
    truth = "\n".join(rng.choice("\t ").join(part) for part in lines)
    text = list(truth)
    for _ in range(rng.choice([0, 1, 2, 9])):
        place = rng.randrange(len(text) + 1)
        text[place : place + rng.randrange(3)] = rng.choice(["", "\n", "\t", " ", "4", "cc", "\n."])
    return "".join(text), truth


def distance(a, b):
    """The table of distances, filled row by row."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


def split(text, name):
    if name == "cer":
        return list(text)
    if name == "ler":
        return text.split("\n")
    return text.replace("\n", " \n ").replace("\t", " \t ").split(" ")


def test_a_thousand_scores():
    rng = random.Random(0)
    pairs = [scores_of(rng) for _ in range(1000)]
    records = [{"prediction": answer, "answers": [truth]} for answer, truth in pairs]
    got = metric(records)
    for name in ("cer", "ser", "ler"):
        each = [(distance(split(a, name), split(t, name)), len(split(t, name))) for a, t in pairs]
        assert got[name] == pytest.approx(sum(d for d, _ in each) / sum(n for _, n in each))
        for record, (d, n) in zip(records, each, strict=True):
            assert record["scores"][name] == pytest.approx(d / n)


def test_like_the_package():
    distance = pytest.importorskip("Levenshtein").distance
    rng = random.Random(1)
    for _ in range(200):
        answer, truth = scores_of(rng)
        got = metric([{"prediction": answer, "answers": [truth]}])
        for name in got:
            a, b = split(answer, name), split(truth, name)
            assert got[name] == pytest.approx(distance(a, b) / len(b))


def test_by_hand():
    assert symbols("4C 4E\t.\n*-") == ["4C", "4E", "\t", ".", "\n", "*-"]
    assert metric([{"prediction": TRUTH, "answers": [TRUTH]}]) == {"cer": 0, "ser": 0, "ler": 0}
    got = metric([{"prediction": TRUTH.replace("8ddJ", "8dd"), "suffix": TRUTH}])
    assert got == pytest.approx({"cer": 1 / len(TRUTH), "ser": 1 / 16, "ler": 1 / 4})
    with pytest.raises(DataError, match="none of 1 records has any"):
        metric([{"prediction": "x", "answers": []}])
