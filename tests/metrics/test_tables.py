"""Tables: stored scores of the authors' code, a published one, and distances by brute force."""

import itertools
import json

import numpy as np
import pytest
from conftest import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st

from pgjax.errors import DataError
from pgjax.metrics import get_metric
from pgjax.metrics.grits import content_rewards, grits, topology_rewards
from pgjax.metrics.tree_edit import tree_edit_distance

STORED = json.loads((GOLDEN / "table_scores.json").read_text())
metric = get_metric("table_structure")
TABLE = "<table><thead><tr><td>a</td><td>b</td></tr></thead><tr><td>1</td><td>2</td></tr></table>"


def scores(prediction, reference=TABLE):
    return metric(prediction, {"answers": [reference]})


@pytest.mark.parametrize("name", STORED)
def test_scores_of_the_authors_code(name):
    for prediction, reference, official in STORED[name]:
        assert scores(prediction, reference)[name] == pytest.approx(official, abs=1e-9)
    assert len({round(official, 6) for *_, official in STORED[name]}) > 8


def test_the_published_example():
    example = json.loads((GOLDEN / "teds_example.json").read_text())
    found = scores(example["prediction"], example["reference"])["teds"]
    assert found == pytest.approx(example["teds"], abs=1e-12)


def test_by_hand():
    """Seven elements below the table: thead, two rows, four cells."""
    assert scores(TABLE) == dict.fromkeys(("teds", "s_teds", "grits_top", "grits_con"), 1.0)
    found = scores(TABLE.replace("1", "x"))
    assert found == {"teds": 1 - 1 / 7, "s_teds": 1.0, "grits_top": 1.0, "grits_con": 3 / 4}
    row = scores("<table><thead><tr><td>a</td><td>b</td></tr></thead></table>")
    assert row["teds"] == row["s_teds"] == pytest.approx(1 - 3 / 7)
    assert row["grits_top"] == row["grits_con"] == pytest.approx(2 * 1 * 0.5 / 1.5)
    wide = scores(TABLE.replace("<td>a</td><td>b</td>", '<td colspan="2">a</td>'))
    assert wide["s_teds"] == pytest.approx(1 - 2 / 7)
    assert wide["grits_top"] == pytest.approx((2 + 2 * 0.5) / 4)


def test_locations_do_not_count():
    boxes = TABLE.replace("<td>", "<td><loc0001><loc0002><loc0100><loc1023>")
    assert scores(boxes) == scores(TABLE) and scores(TABLE, boxes) == scores(TABLE)


@pytest.mark.parametrize(
    ("answer", "teds"),
    [
        ("", 0), ("no table", 0), ("<table>", 0), ("<td>a</td>", 0), ("\x00<table>\ud800", 0),
        (TABLE[:-8], 1), (TABLE.replace("</td>", "").replace("</tr>", ""), 1),
        (TABLE.replace("<td>a", "<td colspan='-3'>a"), 1),
        (TABLE.replace("<td>a", "<td colspan='x' rowspan='2%'>a"), 1),
        (TABLE.replace("<td>a", "<td colspan='99999999'>a"), 0),
        (TABLE.replace("<td>a", "<td colspan='9999999999'>a"), 1),
        (f"{TABLE}{TABLE}", 1), ("<table><!-- " + TABLE, 0),
    ],
)  # fmt: skip
def test_answers_that_are_not_well_formed(answer, teds):
    found = scores(answer)
    assert all(0 <= value <= 1 for value in found.values())
    assert found["teds"] == pytest.approx(teds, abs=0.15 if teds else 0)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([
    "<table>", "</table>", "<tr>", "</tr>", "<td>", "</td>", "<th>", "<td colspan='2'>",
    "<td rowspan=\"3\"", ">", "<thead>", "</thead>", "<b>", "</b>", "a", "<loc0007>", "&", "&lt;",
    "<", "<!--", "-->", "<?x", "<script>", "<div>", "\n", "é", "\x0c", "</body>", "<br/>",
]), max_size=30).map("".join))  # fmt: skip
def test_any_answer_has_a_score(answer):
    found = scores(answer)
    assert len(found) == 4 and all(0 <= value <= 1 + 1e-9 for value in found.values())
    if "<table" in answer:
        try:
            back = scores(TABLE, answer)
        except DataError:
            return
        assert len(back) == 4


def test_deep_and_long_answers():
    assert scores("<table>" + "<tr><td>" * 2000)["teds"] < 0.5
    assert scores("<table>" * 3000 + "<div><br>" * 3000)["teds"] < 0.5
    assert scores("<table>" + "<tr>" + "<td>x" * 1500)["grits_con"] < 0.5


def test_references():
    assert metric("x", {"answers": []}) == {}
    with pytest.raises(DataError, match="needs a table in HTML, the reference is 'x'"):
        scores(TABLE, "x")


# ---- distances of trees --------------------------------------------------------------------------


def draw_tree(rng, size):
    """The parents of nodes in preorder, as [children] of each, and labels."""
    children = [[] for _ in range(size)]
    for node in range(1, size):
        # In preorder, a parent is the node before or one that contains it.
        line, last = [node - 1], node - 1
        while last:
            last = next(p for p in range(last) if last in children[p])
            line.append(last)
        children[line[rng.integers(len(line))]].append(node)
    return children, rng.integers(3, size=size)


def postorder(children):
    order, first = [], []

    def visit(node):
        here = len(order)
        for child in children[node]:
            visit(child)
        order.append(node)
        first.append(here)

    visit(0)
    return order, first


def brute_force(a, b, costs):
    """The least cost over all mappings that keep ancestors and order."""
    first_a, first_b = postorder(a)[1], postorder(b)[1]
    n, m = len(a), len(b)

    def related(first, i, j):
        """Whether i lies below j, left of it, or otherwise, for i before j in postorder."""
        return first[j] <= i

    best = n + m
    for size in range(1, min(n, m) + 1):
        for left in itertools.combinations(range(n), size):
            for right in itertools.combinations(range(m), size):
                pairs = list(zip(left, right, strict=True))
                if all(
                    related(first_a, i, k) == related(first_b, j, t)
                    for (i, j), (k, t) in itertools.combinations(pairs, 2)
                ):
                    cost = n + m - 2 * size + sum(costs[i, j] for i, j in pairs)
                    best = min(best, cost)
    return best


@pytest.mark.parametrize("seed", range(40))
def test_distance_of_trees_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    (a, x), (b, y) = (draw_tree(rng, int(rng.integers(1, 7))) for _ in range(2))
    (order_a, first_a), (order_b, first_b) = postorder(a), postorder(b)
    costs = np.where(x[order_a][:, None] == y[order_b], 0, rng.random((len(a), len(b))))
    found = tree_edit_distance(first_a, first_b, costs)
    assert found == pytest.approx(brute_force(a, b, costs))
    assert tree_edit_distance(first_b, first_a, costs.T) == pytest.approx(found)


@pytest.mark.parametrize("seed", range(10))
def test_distance_of_trees_by_apted(seed):
    apted = pytest.importorskip("apted")
    rng = np.random.default_rng(seed)
    (a, x), (b, y) = (draw_tree(rng, int(rng.integers(20, 60))) for _ in range(2))
    (order_a, first_a), (order_b, first_b) = postorder(a), postorder(b)
    costs = (x[order_a][:, None] != y[order_b]).astype(float)

    def bracket(children, labels, node=0):
        inside = "".join(bracket(children, labels, child) for child in children[node])
        return f"{{{labels[node]}{inside}}}"

    trees = [apted.helpers.Tree.from_text(bracket(*pair)) for pair in ((a, x), (b, y))]
    expected = apted.APTED(*trees).compute_edit_distance()
    assert tree_edit_distance(first_a, first_b, costs) == pytest.approx(expected)


# ---- similarity of grids -------------------------------------------------------------------------


def alignments(n, m):
    """All pairs of rising sequences of equal length in range(n) and range(m)."""
    for size in range(min(n, m) + 1):
        for left in itertools.combinations(range(n), size):
            for right in itertools.combinations(range(m), size):
                yield list(zip(left, right, strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_grits_by_brute_force(seed):
    """Of one row each, the heuristic is exact; else it is at most the best of all alignments."""
    rng = np.random.default_rng(seed)
    for rows in ((1, 1), (3, 2)):
        shape = (rows[0], int(rng.integers(1, 5)), rows[1], int(rng.integers(1, 5)))
        rewards = rng.random(shape).round(1)
        best = max(
            sum(rewards[i, k, j, m] for i, j in by_row for k, m in by_column)
            for by_row in alignments(shape[0], shape[2])
            for by_column in alignments(shape[1], shape[3])
        )
        best *= 2 / (shape[0] * shape[1] + shape[2] * shape[3])
        found = grits(rewards)
        assert found == pytest.approx(best) if rows == (1, 1) else found <= best + 1e-12
        assert found >= 0.6 * best


def test_rewards():
    one, two = [[(0, 0, 1, 1)]], [[(0, 0, 2, 1), (-1, 0, 1, 1)]]
    np.testing.assert_allclose(topology_rewards(one, two)[0, 0, 0], [0.5, 0.5])
    # What two spans share, over the rectangle around both, as in the authors' code.
    np.testing.assert_allclose(topology_rewards(two, [[(0, 0, 1, 2)]])[0, :, 0, 0], [1 / 4, 1 / 4])
    ratios = content_rewards([["abcd", ""]], [["bcde"], [""]])
    np.testing.assert_allclose(ratios[0, :, :, 0], [[0.75, 0], [0, 1]])
    assert grits(np.zeros((0, 0, 2, 2))) == 0 and grits(np.zeros((0, 0, 0, 0))) == 1
