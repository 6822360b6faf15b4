"""GriTS, the similarity of two tables as grids (Smock et al., arXiv:2203.12555).

The rows and the columns of one grid are aligned with those of the other, and the score is the
similarity of the entries where aligned rows and columns meet, summed up and taken as an F-score.
Finding the best alignment is too hard, so rows are aligned by their best scores against each other,
and so are columns, which is what the authors' code does (factored 2D-MSS).
"""

import difflib
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

Rewards = Float64[np.ndarray, "rows_a columns_a rows_b columns_b"]
# A cell's edges, relative to a place that it covers: left, top, right, bottom.
Span = tuple[int, int, int, int]


def grits(rewards: Rewards) -> float:
    """Returns the F-score of two grids.

    Args:
      rewards: the similarity, 0..1, of each entry of the first grid to each of the second.
    """
    rows_a, columns_a, rows_b, columns_b = rewards.shape
    size_a, size_b = rows_a * columns_a, rows_b * columns_b
    if not size_a or not size_b:
        return float(size_a == size_b)
    by_row = _align(_best_scores(rewards.transpose(1, 3, 0, 2)))
    by_column = _align(_best_scores(rewards.transpose(0, 2, 1, 3)))
    # In this order, as sums are rounded.
    total = sum(float(rewards[i, k, j, m]) for i, j in by_row for k, m in by_column)
    precision, recall = total / size_b, total / size_a
    return 2 * precision * recall / (precision + recall) if total else 0.0


def _best_scores(rewards: np.ndarray) -> np.ndarray:
    """The scores of the best alignments along the first two axes, for all others at once."""
    n, m, *others = rewards.shape
    above = np.zeros((m + 1, *others))
    for i in range(n):
        row = np.zeros_like(above)
        for j in range(m):
            row[j + 1] = np.maximum(np.maximum(above[j] + rewards[i, j], above[j + 1]), row[j])
        above = row
    return above[-1]


def _align(rewards: Float64[np.ndarray, "n m"]) -> list[tuple[int, int]]:
    """The pairs of the best alignment; of equal ones, the one that the authors' code finds."""
    n, m = rewards.shape
    scores = np.zeros((n + 1, m + 1))
    for i in range(n):
        for j in range(m):
            scores[i + 1, j + 1] = max(
                scores[i, j] + rewards[i, j], scores[i, j + 1], scores[i + 1, j]
            )
    pairs = []
    while n and m:
        if scores[n - 1, m - 1] + rewards[n - 1, m - 1] == scores[n, m]:
            n, m = n - 1, m - 1
            pairs.append((n, m))
        elif scores[n - 1, m] == scores[n, m]:
            n -= 1
        else:
            m -= 1
    return pairs[::-1]


def topology_rewards(a: Sequence[Sequence[Span]], b: Sequence[Sequence[Span]]) -> Rewards:
    """How alike the cells at two places of two grids lie around these places.

    As in the authors' code, what two spans share is divided by the rectangle around both.
    """
    first, second = (np.array(grid, np.float64).reshape(*_shape(grid), 4) for grid in (a, b))
    first, second = first[:, :, None, None], second[None, None]
    low, high = slice(0, 2), slice(2, 4)
    shared = np.minimum(first[..., high], second[..., high])
    shared -= np.maximum(first[..., low], second[..., low])
    around = np.maximum(first[..., high], second[..., high])
    around -= np.minimum(first[..., low], second[..., low])
    return shared.prod(-1) / around.prod(-1)


def content_rewards(a: Sequence[Sequence[str]], b: Sequence[Sequence[str]]) -> Rewards:
    """How alike the texts at two places of two grids are: `difflib`'s ratio of matching parts."""
    texts_a, texts_b = (sorted({text for row in grid for text in row}) for grid in (a, b))
    ratios = np.array([[_ratio(x, y) for x in texts_a] for y in texts_b])
    ratios = ratios.reshape(len(texts_b), len(texts_a))
    numbers = [{text: i for i, text in enumerate(texts)} for texts in (texts_a, texts_b)]
    places = [
        np.array([[number[text] for text in row] for row in grid], int).reshape(_shape(grid))
        for number, grid in zip(numbers, (a, b), strict=True)
    ]
    return ratios[places[1][None, None], places[0][:, :, None, None]]


def _shape(grid: Sequence[Sequence]) -> tuple[int, int]:
    return len(grid), len(grid[0]) if grid else 0


@functools.lru_cache(maxsize=1)
def _matcher(text: str) -> difflib.SequenceMatcher:
    """What is prepared for the second text, which is compared with many others."""
    return difflib.SequenceMatcher(None, "", text)


def _ratio(a: str, b: str) -> float:
    if not a and not b:
        return 1.0
    if not set(a) & set(b):
        return 0.0
    if a == b and len(b) < 200:  # in longer texts, difflib passes over frequent letters
        return 1.0
    matcher = _matcher(b)
    matcher.set_seq1(a)
    return matcher.ratio()
