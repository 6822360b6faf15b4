"""Scores of tables that are written as HTML: TEDS, S-TEDS and GriTS."""

import re
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from pgjax.errors import DataError, UserError
from pgjax.metrics.anls import edit_distance
from pgjax.metrics.exact_match import references
from pgjax.metrics.grits import Span, content_rewards, grits, topology_rewards
from pgjax.metrics.tree_edit import tree_edit_distance
from pgjax.registry import METRICS

_LOCATION = re.compile(r"<loc[0-9]{4}>")
_CELLS = ("td", "th")
_MOST = 10_000  # places of a grid; an answer whose spans claim more is no table
_TAGS = 0xF0000  # of the first character that stands for a tag in a cell, in private use

# What tells a node from others, and the content of a cell.
_Node = tuple[tuple[str, int, int], str]


@METRICS.register("table_structure", main="teds")
def table_structure(prediction: str, meta: dict) -> dict[str, float]:
    """Scores a table written as HTML, by the authors' definitions of both similarities.

    TEDS (Zhong et al., arXiv:1911.10683) is 1 − distance / nodes: the edit distance of the two
    trees, in which cells of equal spans differ by the edit distance of their contents over the
    length of the longer one, and the number of elements of the larger table. S-TEDS ignores
    contents. GriTS is described in `pgjax.metrics.grits`.

    Location tokens are left out first. HTML that is not well formed is read as browsers read it; an
    answer without a table scores 0.

    Args:
      prediction: the decoded answer.
      meta: holds the reference, the only one of `answers` (or `suffix`).

    Returns:
      `teds`, `s_teds`, `grits_top` and `grits_con`, each in 0..1 (where TEDS is below 0 by its
      definition, as it may be for elements that are nested without end, it counts as 0), or an
      empty dict for an example without a reference.

    Raises:
      UserError: lxml is not installed.
      DataError: the reference has no table.
    """
    texts = references(meta)
    if not texts:
        return {}
    truth, found = _read(texts[0]), _read(prediction)
    if truth is None:
        raise DataError(
            f"The metric table_structure needs a table in HTML, the reference is {texts[0]!r:.100}."
        )
    keys = ("teds", "s_teds", "grits_top", "grits_con")
    if found is None:
        return dict.fromkeys(keys, 0.0)
    spans, contents = zip(*(_grids(table) for table in (truth, found)), strict=True)
    scores = (
        *(max(score, 0.0) for score in _teds(truth, found)),
        grits(topology_rewards(*spans)),
        grits(content_rewards(*contents)),
    )
    return dict(zip(keys, scores, strict=True))


def _read(text: str) -> Any:
    """Parses the first table of a text; None without one, or if it claims too many places."""
    try:
        from lxml import html
    except ImportError:
        raise UserError(
            "The metric table_structure needs lxml: pip install 'paligemma-jax[metrics]'."
        ) from None
    page = f"<html><body>{_LOCATION.sub('', text)}</body></html>".encode(errors="replace")
    parser = html.HTMLParser(remove_comments=True, remove_pis=True, encoding="utf-8")
    tables = html.document_fromstring(page, parser=parser).xpath("body/table")
    if not tables:
        return None
    places = 0
    for cell in tables[0].iter(*_CELLS):
        places += _span(cell, "rowspan") * _span(cell, "colspan")
    return tables[0] if places <= _MOST else None


def _span(cell: Any, name: str) -> int:
    """How many rows or columns a cell covers; 1 where it does not say so in a whole number."""
    value = cell.get(name, "1").strip()
    return max(1, int(value)) if value.isascii() and value.isdigit() and len(value) < 9 else 1


def _teds(truth: Any, found: Any) -> tuple[float, float]:
    """Returns TEDS, and TEDS without contents."""
    tags: dict[str, str] = {}
    (nodes_a, first_a), (nodes_b, first_b) = (_tree(table, tags) for table in (found, truth))
    size = max(sum(1 for _ in table.iterdescendants()) for table in (truth, found))
    kinds_a, kinds_b = _numbered(*([kind for kind, _ in nodes] for nodes in (nodes_a, nodes_b)))
    texts_a, texts_b = _numbered(*([text for _, text in nodes] for nodes in (nodes_a, nodes_b)))
    structure = (kinds_a[:, None] != kinds_b).astype(np.float64)
    whole = structure.copy()
    pairs = np.nonzero((structure == 0) & (texts_a[:, None] != texts_b))
    number = texts_a[pairs[0]] * (1 + texts_b.max()) + texts_b[pairs[1]]
    _, where, inverse = np.unique(number, return_index=True, return_inverse=True)
    changes = [
        edit_distance(x, y) / max(len(x), len(y))
        for x, y in ((nodes_a[pairs[0][k]][1], nodes_b[pairs[1][k]][1]) for k in where)
    ]
    whole[pairs] = np.array(changes)[inverse]
    # A table without elements is like any other of this kind.
    distances = (tree_edit_distance(first_a, first_b, costs) for costs in (whole, structure))
    score, structure_score = (1 - distance / max(size, 1) for distance in distances)
    return score, structure_score


def _numbered(a: Sequence[Hashable], b: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers that are equal where the values of two lists are."""
    numbers = {value: i for i, value in enumerate({*a, *b})}
    found, others = (np.array([numbers[value] for value in each], int) for each in (a, b))
    return found, others


def _tree(table: Any, tags: dict[str, str]) -> tuple[list[_Node], list[int]]:
    """The nodes of a table in postorder, and the number of the leftmost leaf below each.

    What is inside of a cell is its content; a `th` is a node like `tr`, as in the authors' code.
    """
    nodes: list[_Node] = []
    first: list[int] = []

    def visit(element: Any) -> None:
        here, cell = len(nodes), element.tag == "td"
        if not cell:
            for child in element:
                visit(child)
        columns, rows = (_span(element, s) if cell else 0 for s in ("colspan", "rowspan"))
        kind = element.tag, columns, rows
        nodes.append((kind, "".join(_inside(element, tags)) if cell else ""))
        first.append(here)

    visit(table)
    return nodes, first


def _inside(element: Any, tags: dict[str, str]) -> Iterator[str]:
    """The content of a cell, in which each tag is one character of those that no text has."""
    yield element.text or ""
    for child in element:
        for tag in (child.tag, f"/{child.tag}"):
            tags.setdefault(tag, chr(_TAGS + len(tags)))
        yield tags[child.tag]
        yield from _inside(child, tags)
        yield tags[f"/{child.tag}"]
        if child.tag != "td":
            yield child.tail or ""


def _grids(table: Any) -> tuple[list[list[Span]], list[list[str]]]:
    """What covers each place of a table's grid: relative spans, and texts.

    A cell begins at the first place of its row that none above has taken, and may then lie over
    others. Places without a cell are like empty cells.
    """
    spans: dict[tuple[int, int], Span] = {}
    texts: dict[tuple[int, int], str] = {}
    row = -1
    for element in table.iter("tr", *_CELLS):
        if element.tag == "tr":
            row += 1
            continue
        top, left = max(row, 0), 0
        while (top, left) in spans:
            left += 1
        text = " ".join(element.itertext())
        bottom, right = top + _span(element, "rowspan"), left + _span(element, "colspan")
        for y in range(top, bottom):
            for x in range(left, right):
                spans[y, x] = left - x, top - y, right - x, bottom - y
                texts[y, x] = text
    rows, columns = (range(1 + max((place[i] for place in spans), default=-1)) for i in (0, 1))
    return (
        [[spans.get((y, x), (0, 0, 1, 1)) for x in columns] for y in rows],
        [[texts.get((y, x), "") for x in columns] for y in rows],
    )
