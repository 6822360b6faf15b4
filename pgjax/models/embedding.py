"""The matrix of the vocabulary, by far the largest one: looked up by row, and multiplied by."""

import itertools
import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from pgjax.models.rows import Rows, are_few, sums

# Of the vocabulary; widening all of a half-precision matrix at once costs ten times more on a CPU,
# and on a GPU twice its memory.
_BLOCKS = 128


@flax.struct.dataclass
class Transposed:
    """A matrix [V,D] kept as [D,V], which a CPU multiplies a few rows by a quarter faster."""

    columns: jax.Array

    def astype(self, dtype: Any) -> "Transposed":
        """As of an array."""
        return Transposed(self.columns.astype(dtype))

    @property
    def dtype(self) -> jnp.dtype:
        """As of an array."""
        return self.columns.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """[V,D]."""
        return self.columns.shape[::-1]

    @property
    def nbytes(self) -> int:
        """As of an array."""
        return self.columns.nbytes


def take_rows(table: jax.Array | Transposed, tokens: jax.Array) -> jax.Array:
    """[V,D] at int32 [...]: [...,D] in the table's dtype."""
    if isinstance(table, Transposed):
        return jnp.moveaxis(jnp.take(table.columns, tokens, axis=1), 0, -1)
    return jnp.take(table, tokens, axis=0)


def dot_rows(x: jax.Array, table: jax.Array | Transposed) -> jax.Array:
    """[...,D] times each row of [V,D], in x's dtype: float32 [...,V].

    A narrower table is widened one block at a time, or on a GPU and for a few rows as it is read.
    """
    if isinstance(table, Transposed):
        columns = table.columns.astype(x.dtype)
        return jnp.einsum("...D,DV->...V", x, columns, preferred_element_type=jnp.float32)
    if x.ndim == 2 and are_few(x, Rows(table, table.shape, (1,))):
        return jax.lax.platform_dependent(x, table, cuda=_sum_rows, default=_multiply_rows)
    return _multiply_rows(x, table)


def _sum_rows(x: jax.Array, table: jax.Array) -> jax.Array:
    """[R,D] times each row of [V,D]: float32 [R,V]."""
    if x.shape[0] == 1:
        return sums(x, Rows(table, table.shape, (1,)), jnp.float32)
    # In quarters: several rows' sums are put together only afterwards, and take memory until then.
    out = jnp.zeros((x.shape[0], table.shape[0]), jnp.float32)
    bounds = [i * table.shape[0] // 4 for i in range(5)]
    for start, stop in itertools.pairwise(bounds):
        part = jax.lax.slice_in_dim(table, start, stop)
        part = sums(x, Rows(part, part.shape, (1,)), jnp.float32)
        out = jax.lax.dynamic_update_slice_in_dim(out, part, start, axis=1)
    return out


def _multiply_rows(x: jax.Array, table: jax.Array) -> jax.Array:
    """As `dot_rows`."""

    def product(rows):
        return jnp.einsum(
            "...D,VD->...V", x, rows.astype(x.dtype), preferred_element_type=jnp.float32
        )

    if not is_narrower(table, x):
        return product(table)

    def body(i, out):
        part = product(block(table, i, 0))
        start = i * part.shape[-1]
        return jax.lax.dynamic_update_slice_in_dim(out, part, start, axis=x.ndim - 1)

    out = jnp.zeros((*x.shape[:-1], table.shape[0]), jnp.float32)
    return jax.lax.fori_loop(*all_blocks(table), body, out)


def is_narrower(table: jax.Array | Transposed, x: jax.Array) -> bool:
    """Whether the table has to be widened to multiply x."""
    return table.dtype.itemsize < x.dtype.itemsize


def all_blocks(table: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first block of [V,D] and the number of blocks, for a loop over them."""
    return jnp.int32(0), jnp.int32(math.gcd(table.shape[0], _BLOCKS))


def block(x: jax.Array, i: jax.Array, axis: int) -> jax.Array:
    """The i-th of the equal blocks that an axis of the vocabulary's size is cut into."""
    size = x.shape[axis] // math.gcd(x.shape[axis], _BLOCKS)
    return jax.lax.dynamic_slice_in_dim(x, i * size, size, axis)
