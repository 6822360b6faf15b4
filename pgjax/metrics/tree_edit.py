"""The edit distance between ordered trees (Zhang & Shasha, SIAM J. Comput. 18, 1989)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64


def tree_edit_distance(
    a: Sequence[int], b: Sequence[int], rename: Float64[np.ndarray, "n m"]
) -> float:
    """Returns the least cost of making one tree of another, where nodes keep their order.

    Removing or adding a node costs 1; its children take its place.

    Args:
      a: [n] the first tree: for each node in postorder, the number of its leftmost leaf.
      b: [m] the second tree, likewise.
      rename: the cost, 0..1, of making node i of the first tree node j of the second one.
    """
    if list(a) == list(b) and not np.diagonal(rename).any():
        return 0.0
    big_a, big_b = _inner_roots(a), _inner_roots(b)
    if _work(a, big_a) * len(big_b) > _work(b, big_b) * len(big_a):  # rows of numpy are faster
        a, b, rename, big_a, big_b = b, a, rename.T, big_b, big_a
    distances = _leaf_distances(a, b, rename)
    first_b = np.asarray(b)
    for i in big_a:
        for j in big_b:
            _fill(distances, a, first_b, rename, i, j)
    return float(distances[-1, -1])


def _inner_roots(first: Sequence[int]) -> list[int]:
    """The roots of what is compared: the topmost node of each leftmost leaf, but no leaves."""
    topmost = {leaf: node for node, leaf in enumerate(first)}
    return sorted(node for leaf, node in topmost.items() if leaf < node)


def _work(first: Sequence[int], roots: Sequence[int]) -> int:
    return sum(root - first[root] + 1 for root in roots)


def _leaf_distances(
    a: Sequence[int], b: Sequence[int], rename: Float64[np.ndarray, "n m"]
) -> Float64[np.ndarray, "n m"]:
    """Distances between subtrees of which one is a leaf: it becomes the node that is most alike.

    The other entries are filled in later.
    """
    distances = np.zeros_like(rename)
    leaves_a, leaves_b = (np.flatnonzero(np.arange(len(t)) == t) for t in (a, b))
    for j, first in enumerate(b):
        distances[leaves_a, j] = rename[leaves_a, first : j + 1].min(axis=1) + (j - first)
    for i, first in enumerate(a):
        distances[i, leaves_b] = rename[first : i + 1, leaves_b].min(axis=0) + (i - first)
    return distances


def _fill(
    distances: Float64[np.ndarray, "n m"],
    a: Sequence[int],
    b: np.ndarray,
    rename: Float64[np.ndarray, "n m"],
    i: int,
    j: int,
) -> None:
    """Fills in the distances between all subtrees that share a leftmost leaf with i and j."""
    top, left = a[i], int(b[j])
    width = j - left + 1
    columns = slice(left, j + 1)
    before = b[columns] - left  # how much of the second forest lies left of each subtree
    trees = np.flatnonzero(before == 0)  # subtrees of which nothing lies left
    added = np.arange(width + 1.0)
    forests = np.empty((i - top + 2, width + 1))
    forests[0] = added
    for row in range(1, i - top + 2):
        node = top + row - 1
        above = forests[row - 1]
        best = forests[a[node] - top][before] + distances[node, columns]
        if a[node] == top:
            best[trees] = above[trees] + rename[node, columns][trees]
        best = np.minimum(best, above[1:] + 1)
        # Then nodes of the second forest may be added, at 1 each.
        forests[row, 0] = row
        forests[row, 1:] = best
        forests[row] = np.minimum.accumulate(forests[row] - added) + added
        if a[node] == top:
            distances[node, left + trees] = forests[row][trees + 1]
