"""Brings an opened checkpoint to its devices, one tensor at a time."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from pgjax import trees
from pgjax.checkpoints.tensors import InMemory, Tensor, aligned, as_aligned
from pgjax.errors import note

POSITIONS = "img/pos_embedding"
SLICE_BYTES = 2**28  # of a tensor that is in host memory at a time


def load(
    tensors: Mapping[str, Tensor], targets: Mapping[str, jax.ShapeDtypeStruct], *, what: str
) -> dict[str, jax.Array]:
    """Reads tensors to the dtypes and shardings of their targets, strictly.

    Large ones go in slices, so that host memory holds little beside what is on a CPU "device".
    Position embeddings of another resolution are resampled, and that is said.

    Args:
      tensors: as stored.
      targets: shapes, dtypes and shardings wanted.
      what: the checkpoint, for messages.

    Raises:
      UserError: a missing, left-over or mis-shaped tensor, all listed together.
    """
    tensors = resampled(tensors, targets, what)
    trees.check_same(targets, tensors, what=what)
    return {name: _put(tensors[name], target) for name, target in targets.items()}


def resampled(
    tensors: Mapping[str, Tensor], targets: Mapping[str, jax.ShapeDtypeStruct], what: str
) -> Mapping[str, Tensor]:
    """The tensors with position embeddings that fit the target's resolution."""
    if POSITIONS not in tensors or POSITIONS not in targets:
        return tensors
    before, after = tensors[POSITIONS].shape, targets[POSITIONS].shape
    if before == after or before[-1] != after[-1]:
        return tensors
    sides = [round(shape[1] ** 0.5) for shape in (before, after)]
    if [side**2 for side in sides] != [before[1], after[1]]:
        return tensors
    note(
        f"{what} was trained on {sides[0]}x{sides[0]} image tokens; its position embeddings are "
        f"resampled to {sides[1]}x{sides[1]}. Fine-tune it, or use a checkpoint of this resolution."
    )
    x = resample_positions(tensors[POSITIONS].read(), sides[1])
    return {**tensors, POSITIONS: InMemory(x)}


def resample_positions(x: np.ndarray, side: int) -> np.ndarray:
    """Bilinear, corners on corners, as big_vision does (`scipy.ndimage.zoom`, order 1).

    Args:
      x: [1,P,D] with P a square number.
      side: of the new grid.

    Returns:
      [1,side²,D] in x's dtype.
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


def _put(tensor: Tensor, target: jax.ShapeDtypeStruct) -> jax.Array:
    shape, spec = tensor.shape, target.sharding.spec
    row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * jnp.dtype(target.dtype).itemsize
    rows = max(1, SLICE_BYTES // max(row_bytes, 1))
    split_rows = len(spec) > 0 and spec[0] is not None
    if not shape or rows >= shape[0] or split_rows:
        return jax.make_array_from_callback(
            shape, target.sharding, lambda index: _rows(tensor, index, target.dtype)
        )
    slices = [(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows)]
    if jax.default_backend() == "cpu":  # host memory is where it is to be
        host = aligned(shape, target.dtype)
        for start, stop in slices:
            host[start:stop] = tensor.read(start, stop)
        return put(host, target.sharding, target.dtype)
    whole = jax.jit(lambda: jnp.zeros(shape, target.dtype), out_shardings=target.sharding)()
    write = jax.jit(
        lambda x, part, start: jax.lax.dynamic_update_slice_in_dim(x, part, start, axis=0),
        donate_argnums=0,
        out_shardings=target.sharding,
    )
    for start, stop in slices:
        part = put(tensor.read(start, stop), target.sharding, target.dtype)
        whole = write(whole, part, jnp.int32(start))
    return whole


def put(x: np.ndarray, sharding: NamedSharding, dtype: jnp.dtype) -> jax.Array:
    """Puts a host array that every process holds whole; each device takes only its part.

    On a CPU the result may be the host's memory itself, so `x` must not change any more.
    """
    return jax.make_array_from_callback(
        x.shape, sharding, lambda index: as_aligned(np.asarray(x[index]), dtype)
    )


def put_transposed(tensor: Tensor, target: jax.ShapeDtypeStruct) -> jax.Array:
    """A matrix [V,D] as float32 [D,V], in slices, for a device that is a CPU."""
    rows, columns = tensor.shape
    host = aligned((columns, rows), np.float32)
    step = max(1, SLICE_BYTES // (columns * host.itemsize))
    for start in range(0, rows, step):
        host[:, start : start + step] = tensor.read(start, min(start + step, rows)).T
    spec = (*target.sharding.spec, None, None)[:2]
    return put(host, NamedSharding(target.sharding.mesh, PartitionSpec(*spec[::-1])), np.float32)


def _rows(tensor: Tensor, index: tuple[slice, ...], dtype: jnp.dtype) -> np.ndarray:
    """What one device holds, read without the other devices' rows."""
    if not index:
        return np.asarray(tensor.read()).astype(dtype)
    x = tensor.read(index[0].start or 0, index[0].stop)
    return as_aligned(x[(slice(None), *index[1:])], dtype)
