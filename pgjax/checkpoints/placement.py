"""Brings the tensors of a checkpoint to the devices, one tensor at a time."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Float32
from numpy.typing import DTypeLike

from pgjax.checkpoints.tensors import SLICE_BYTES, Tensor, empty_aligned, to_aligned


def place(
    tensors: Mapping[str, Tensor], targets: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.Array]:
    """Reads tensors to the devices.

    Large tensors are read in slices, so that host memory holds little more than `SLICE_BYTES`,
    unless the device itself is the CPU.

    Args:
      tensors: the tensors to read, by name; `fit_to_model` checks their shapes.
      targets: for each tensor to read, its shape and the dtype and sharding that it is to have.

    Raises:
      UserError: a file is damaged.
    """
    return {name: _place(tensors[name], target) for name, target in targets.items()}


def _place(tensor: Tensor, target: jax.ShapeDtypeStruct) -> jax.Array:
    shape, sharding = tensor.shape, target.sharding
    assert isinstance(sharding, NamedSharding), sharding
    row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * jnp.dtype(target.dtype).itemsize
    rows = max(1, SLICE_BYTES // max(row_bytes, 1))
    split_rows = len(sharding.spec) > 0 and sharding.spec[0] is not None
    if not shape or rows >= shape[0] or split_rows:
        return jax.make_array_from_callback(
            shape, sharding, lambda index: _read_part(tensor, index or (), target.dtype)
        )
    slices = [(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows)]
    if jax.default_backend() == "cpu":  # The tensor stays in host memory.
        host = empty_aligned(shape, target.dtype)
        for start, stop in slices:
            host[start:stop] = tensor.read(start, stop)
        return put(host, sharding, target.dtype)
    whole = jax.jit(lambda: jnp.zeros(shape, target.dtype), out_shardings=sharding)()
    write = jax.jit(
        lambda x, part, start: jax.lax.dynamic_update_slice_in_dim(x, part, start, axis=0),
        donate_argnums=0,
        out_shardings=sharding,
    )
    for start, stop in slices:
        part = put(tensor.read(start, stop), sharding, target.dtype)
        whole = write(whole, part, jnp.int32(start))
    return whole


def put(x: np.ndarray, sharding: NamedSharding, dtype: DTypeLike) -> jax.Array:
    """Puts a host array to the devices; each of them takes only its part.

    On a CPU the result may share the memory of `x`, so `x` must not change any more.

    Args:
      x: the whole array, which every process holds.
      sharding: how the devices split it.
      dtype: the dtype of the result.
    """
    return jax.make_array_from_callback(
        x.shape, sharding, lambda index: to_aligned(np.asarray(x[index]), dtype)
    )


def put_transposed(tensor: Tensor, target: jax.ShapeDtypeStruct) -> Float32[jax.Array, "d v"]:
    """Puts a matrix to the devices as its transpose in float32, for devices that are CPUs.

    Args:
      tensor: [v, d], which is read in slices.
      target: the sharding of the matrix; the result has its transpose.

    Returns:
      float32 [d, v].
    """
    rows, columns = tensor.shape
    host = empty_aligned((columns, rows), np.float32)
    step = max(1, SLICE_BYTES // (columns * host.itemsize))
    for start in range(0, rows, step):
        host[:, start : start + step] = tensor.read(start, min(start + step, rows)).T
    assert isinstance(target.sharding, NamedSharding), target.sharding
    spec = (*target.sharding.spec, None, None)[:2]
    return put(host, NamedSharding(target.sharding.mesh, PartitionSpec(*spec[::-1])), np.float32)


def _read_part(tensor: Tensor, index: tuple[slice, ...], dtype: DTypeLike) -> np.ndarray:
    """Reads what one device holds, without the rows of other devices."""
    if not index:
        return np.asarray(tensor.read()).astype(dtype)
    x = tensor.read(index[0].start or 0, index[0].stop)
    return to_aligned(x[(slice(None), *index[1:])], dtype)
