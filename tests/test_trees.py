import numpy as np
import pytest

from pgjax import trees
from pgjax.errors import UserError

TREE = {"b": {"x": 1, "deep": {"y": 2}}, "a": 3}
FLAT = {"b/x": 1, "b/deep/y": 2, "a": 3}


def test_flatten_and_back():
    assert trees.flatten(TREE) == FLAT
    assert list(trees.flatten(TREE)) == ["b/x", "b/deep/y", "a"]  # in its own order
    assert trees.unflatten(FLAT) == TREE
    assert trees.flatten({}) == {} and trees.unflatten({}) == {}


def test_first_match_is_of_whole_names_in_order():
    rules = [("a/b", 1), ("a/.*", 2), (".*/b", 3), (".*", 4)]
    names = ["a/b", "a/bb", "c/b", "c", "a"]
    got = trees.first_match(rules, names, what="rules")
    assert got == {"a/b": 1, "a/bb": 2, "c/b": 3, "c": 4, "a": 4}


def test_a_shadowed_rule_is_fine_and_a_dead_one_is_not():
    assert trees.first_match([(".*", 1), ("a", 2)], ["a", "b"], what="r") == {"a": 1, "b": 1}
    with pytest.raises(UserError, match=r"^config.x: 'c', 'd' matches no parameter.*'a', 'b'"):
        trees.first_match([("c", 1), (".*", 1), ("d", 1)], ["a", "b"], what="config.x")
    assert trees.first_match([("c", 1)], [], what="r") == {}


def test_unmatched_names_are_listed_but_not_all():
    names = [f"p{i}" for i in range(9)]
    with pytest.raises(UserError) as e:
        trees.first_match([("p0", 1)], names, what="config.x")
    assert "'p1', 'p2', 'p3', 'p4', 'p5' and 3 more" in str(e.value)
    assert str(e.value).startswith("config.x: no rule matches")


def test_bad_regex():
    with pytest.raises(UserError, match=r"config.x: '\*' is not a regular expression"):
        trees.first_match([("*", 1)], ["a"], what="config.x")


def test_differences_are_listed_together():
    expected = {"a": np.zeros((2, 3)), "b": np.zeros(4), "c": np.zeros(())}
    trees.check_same(expected, dict(expected), what="x")
    got = {"a": np.zeros((3, 2)), "c": np.zeros(()), "extra": np.zeros(1)}
    with pytest.raises(UserError) as e:
        trees.check_same(expected, got, what="Checkpoint x.npz")
    assert str(e.value).splitlines() == [
        "Checkpoint x.npz does not fit the model (3 differences):",
        "  ! a has shape 3x2, expected 2x3",
        "  - b 4 is missing",
        "  + extra 1 is left over",
    ]
    with pytest.raises(UserError, match="- c scalar is missing"):
        trees.check_same({"c": np.zeros(())}, {}, what="x")
