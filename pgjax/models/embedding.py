"""The embedding [V,D], by far the largest matrix: token lookup, and products that make logits."""

import itertools
import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32, Int32

from pgjax.models.rows import Rows, are_few, sums

# The most blocks that the vocabulary is cut into. Widening all of a half-precision matrix at once
# takes ten times as long on a CPU, and twice its memory on a GPU.
_BLOCKS = 128


@flax.struct.dataclass
class Transposed:
    """An embedding [V,D] stored as [D,V], with which a CPU multiplies a few rows a quarter faster.

    It has the dtype, shape and size of the matrix [V,D] that it stands for.
    """

    columns: jax.Array

    def astype(self, dtype: Any) -> "Transposed":
        """Returns the matrix in another dtype."""
        return Transposed(self.columns.astype(dtype))

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of the elements."""
        return self.columns.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """The shape [V,D] of the matrix, although it is stored as [D,V]."""
        width, vocab = self.columns.shape
        return vocab, width

    @property
    def nbytes(self) -> int:
        """The size of the stored array in bytes."""
        return self.columns.nbytes


def take_rows(
    table: Float[jax.Array, "v d"] | Transposed, tokens: Int32[jax.Array, "*b"]
) -> Float[jax.Array, "*b d"]:
    """Looks up the embeddings of tokens.

    Args:
      table: [V,D].
      tokens: int32 [...], in 0..V-1.

    Returns:
      [...,D] in the table's dtype.
    """
    if isinstance(table, Transposed):
        return jnp.moveaxis(jnp.take(table.columns, tokens, axis=1), 0, -1)
    return jnp.take(table, tokens, axis=0)


def dot_rows(
    x: Float[jax.Array, "*b d"], table: Float[jax.Array, "v d"] | Transposed
) -> Float32[jax.Array, "*b v"]:
    """Multiplies vectors by every row of an embedding, in the vectors' dtype.

    A table of a narrower dtype is widened one block at a time; a GPU that multiplies only a few
    vectors widens it as it reads it.

    Args:
      x: [...,D].
      table: [V,D].

    Returns:
      float32 [...,V], summed in float32.
    """
    if isinstance(table, Transposed):
        columns = table.columns.astype(x.dtype)
        return jnp.einsum("...D,DV->...V", x, columns, preferred_element_type=jnp.float32)
    if x.ndim == 2 and are_few(x, Rows(table, table.shape, (1,))):
        return jax.lax.platform_dependent(x, table, cuda=_sum_rows, default=_multiply_rows)
    return _multiply_rows(x, table)


def _sum_rows(x: jax.Array, table: jax.Array) -> jax.Array:
    """Multiplies [R,D] by each row of [V,D], by sums of products: float32 [R,V]."""
    if x.shape[0] == 1:
        return sums(x, Rows(table, table.shape, (1,)), jnp.float32)
    # In quarters: the sums of several rows are joined only at the end, and take memory until then.
    out = jnp.zeros((x.shape[0], table.shape[0]), jnp.float32)
    bounds = [i * table.shape[0] // 4 for i in range(5)]
    for start, stop in itertools.pairwise(bounds):
        part = jax.lax.slice_in_dim(table, start, stop)
        part = sums(x, Rows(part, part.shape, (1,)), jnp.float32)
        out = jax.lax.dynamic_update_slice_in_dim(out, part, start, axis=1)
    return out


def _multiply_rows(x: jax.Array, table: jax.Array) -> jax.Array:
    """Multiplies [...,D] by each row of [V,D], by matrix products: float32 [...,V]."""

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
    """Says whether a product with x has to widen the table."""
    return table.dtype.itemsize < x.dtype.itemsize


def all_blocks(table: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the bounds of a loop over the blocks of [V,D]: 0, and their number."""
    return jnp.int32(0), jnp.int32(math.gcd(table.shape[0], _BLOCKS))


def block(x: jax.Array, i: jax.Array, axis: int) -> jax.Array:
    """Returns the i-th of the equal blocks into which an axis of the vocabulary's size is cut."""
    size = x.shape[axis] // math.gcd(x.shape[axis], _BLOCKS)
    return jax.lax.dynamic_slice_in_dim(x, i * size, size, axis)
