"""Fits the tensors of a checkpoint to a model: same names and shapes, at the model's resolution."""

from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import Float

from pgjax import trees
from pgjax.checkpoints.tensors import InMemory, Tensor
from pgjax.errors import note

POSITIONS = "img/pos_embedding"


def fit_to_model(
    tensors: Mapping[str, Tensor], targets: Mapping[str, jax.ShapeDtypeStruct], *, what: str
) -> dict[str, Tensor]:
    """Checks that tensors are those of a model, and adapts them to its resolution.

    Position embeddings of another resolution are resampled, which a note reports.

    Args:
      tensors: the tensors of a checkpoint by name.
      targets: the shapes that the model has, by name.
      what: the checkpoint, for messages, such as `Checkpoint x.npz`.

    Returns:
      The tensors, with the names and shapes of the targets.

    Raises:
      UserError: tensors are missing, left over, or of another shape; the message lists them all.
    """
    fitted = dict(tensors)
    if sides := _grids_that_differ(tensors, targets):
        before, after = sides
        note(
            f"{what} was trained on {before}x{before} image tokens; its position embeddings are "
            f"resampled to {after}x{after}. Fine-tune it, or use a checkpoint of this resolution."
        )
        fitted[POSITIONS] = InMemory(resample_positions(tensors[POSITIONS].read(), after))
    trees.check_same(targets, fitted, what=what)
    return fitted


def _grids_that_differ(
    tensors: Mapping[str, Tensor], targets: Mapping[str, jax.ShapeDtypeStruct]
) -> tuple[int, int] | None:
    """Returns the sides of the checkpoint's and the model's grid, if they differ only in size."""
    if POSITIONS not in tensors or POSITIONS not in targets:
        return None
    before, after = tensors[POSITIONS].shape, targets[POSITIONS].shape
    if len(before) != 3 or before == after or before[-1] != after[-1]:
        return None
    old, new = round(before[1] ** 0.5), round(after[1] ** 0.5)
    return (old, new) if (old**2, new**2) == (before[1], after[1]) else None


def resample_positions(
    x: Float[np.ndarray, "1 p d"], side: int
) -> Float[np.ndarray, "1 {side*side} d"]:
    """Resamples position embeddings to another grid.

    The interpolation is bilinear and maps corners to corners, as in big_vision, which uses
    `scipy.ndimage.zoom` of order 1.

    Args:
      x: [1, p, d], where p is a square number.
      side: the side of the new grid, in patches.

    Returns:
      [1, side², d] in the dtype of x.
    """
    old = round(x.shape[1] ** 0.5)
    at = np.arange(side) * (old - 1) / max(side - 1, 1)
    low = np.minimum(at.astype(int), max(old - 2, 0))
    weights = np.zeros((side, old))
    weights[np.arange(side), low] = 1 - (at - low)
    weights[np.arange(side), np.minimum(low + 1, old - 1)] += at - low
    grid = x.astype(np.float64).reshape(old, old, -1)
    grid = np.einsum("ai,bj,ijd->abd", weights, weights, grid)
    return grid.reshape(1, side * side, -1).astype(x.dtype)
