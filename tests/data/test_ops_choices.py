import numpy as np
import pytest

from pgjax.data.pipeline import Pipeline
from pgjax.errors import DataError

CHOICES = {"choices": ["a", "b", "c"], "correct": 1}


def run(spec, seed=0, **example):
    return Pipeline.parse(spec)(example, rng=np.random.default_rng(seed))


def test_letters():
    out = run("letter_choices", **CHOICES)
    assert (out["options"], out["letter"]) == ("(A) a, (B) b, (C) c", "B")
    with pytest.raises(DataError, match="'correct' is 3, but 'choices' has 3 choices"):
        run("letter_choices", choices=["a", "b", "c"], correct=3)


def test_the_right_one_stays_right():
    orders = set()
    for seed in range(30):
        out = run("shuffle_choices|letter_choices", seed, **CHOICES)
        assert out["choices"][out["correct"]] == "b"
        assert f"({out['letter']}) b" in out["options"]
        orders.add(tuple(out["choices"]))
    assert len(orders) == 6
    assert CHOICES["choices"] == ["a", "b", "c"]


def test_lists_are_chosen_from_alike():
    spec = "choice(('languages', 'answers'), ('language', 'suffix'))"
    lists = {"languages": ["en", "de", "fr"], "answers": ["cat", "Katze", "chat"]}
    pairs = set()
    for seed in range(30):
        out = run(spec, seed, **lists)
        pairs.add((out["language"], out["suffix"]))
    assert pairs == {("en", "cat"), ("de", "Katze"), ("fr", "chat")}
    with pytest.raises(DataError, match=r"lists of lengths \{'languages': 2, 'answers': 1\}"):
        run(spec, languages=["en", "de"], answers=["cat"])


def test_outline():
    image = np.full((11, 21, 3), 9, np.uint8)
    out = run("outline", image=image, boxes=[[0.2, 0.1, 0.8, 0.5]])["image"]
    expected = image.copy()
    for y, x in np.ndindex(11, 21):
        inside = 2 <= y <= 8 and 2 <= x <= 10
        if inside and (y in (2, 8) or x in (2, 10)):
            expected[y, x] = (255, 0, 0)
    assert np.array_equal(out, expected)
    assert (image == 9).all()
    whole = run("outline((0, 0, 255))", image=image, boxes=[[0, 0, 1, 1]])["image"]
    assert (whole[[0, -1]] == (0, 0, 255)).all() and (whole[:, [0, -1]] == (0, 0, 255)).all()
