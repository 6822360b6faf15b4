"""Products with matrices stored for inference as [N,K], one output channel per row.

N counts output channels, K inputs that a product sums over, R the rows of x. Generating a token is
bound by reading the matrices, so they should be read once, as they are stored: in half precision,
or as codes. On a GPU a sum of products over the last axis compiles to one kernel that widens what
it has read, even for several rows of x; a library's matrix product would need it widened in memory
first.
"""

from typing import Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float

from pgjax.sharding import constrain

# The most rows of x for which a GPU uses sums of products; for more, its matrix units are faster.
_FEW = 8


class Matrix(Protocol):
    """A matrix [N,K] that `times` and `products` multiply by."""

    def summands(self) -> list[tuple[int, jax.Array]]:
        """Returns pairs (j, w): float32 w [N,K'] multiplies the columns j..j+K'-1 of x."""
        ...

    def floats(self, dtype: jnp.dtype) -> jax.Array:
        """Returns [N,K] in the dtype of the x that it multiplies, to be scaled by `factors`."""
        ...

    def factors(self) -> jax.Array | None:
        """Returns float32 [N], which the sums are multiplied by at the end, or None."""
        ...

    def is_widened(self, dtype: jnp.dtype) -> bool:
        """Says whether `floats` takes memory of its own on a GPU that multiplies in this dtype."""
        ...

    def fuses_with_rows(self, dtype: jnp.dtype) -> bool:
        """Says whether one GPU kernel sums for several rows of x, which have this dtype."""
        ...


@flax.struct.dataclass
class Rows:
    """One layer of a float parameter, stored as [N,K]."""

    values: jax.Array
    shape: tuple[int, ...] = flax.struct.field(pytree_node=False)  # shape of the parameter's layer
    summed: tuple[int, ...] = flax.struct.field(pytree_node=False)  # axes of the layer that make K

    @property
    def nbytes(self) -> int:
        """The size of the array in bytes."""
        return self.values.nbytes

    def summands(self) -> list[tuple[int, jax.Array]]:
        """Returns the matrix as float32, which begins at column 0."""
        return [(0, self.values.astype(jnp.float32))]

    def floats(self, dtype: jnp.dtype) -> jax.Array:
        """Returns the matrix [N,K] in a dtype."""
        return self.values.astype(dtype)

    def factors(self) -> None:
        """Returns None, because float weights need no scales."""
        return None

    def is_widened(self, dtype: jnp.dtype) -> bool:
        """Says that only float32 takes memory; Triton, used for bfloat16, widens as it reads."""
        return dtype == jnp.float32 != self.values.dtype

    def fuses_with_rows(self, dtype: jnp.dtype) -> bool:
        """Says that one GPU kernel sums for several rows of x."""
        return True


def to_rows(layer: jax.Array, summed: tuple[int, ...]) -> jax.Array:
    """Rearranges a parameter's layer into [N,K]; `summed` are the axes that make K."""
    kept = [a for a in range(layer.ndim) if a not in summed]
    k = 1
    for a in summed:
        k *= layer.shape[a]
    return layer.transpose(*kept, *summed).reshape(-1, k)


def from_rows(rows: jax.Array, shape: tuple[int, ...], summed: tuple[int, ...]) -> jax.Array:
    """Inverts `to_rows`, given the layer's shape and the axes that make K."""
    order = [a for a in range(len(shape)) if a not in summed] + list(summed)
    x = rows.reshape([shape[a] for a in order])
    return x.transpose([order.index(a) for a in range(len(shape))])


def times(x: Float[jax.Array, "r k"], matrix: Matrix) -> Float[jax.Array, "r n"]:
    """Multiplies x by each row of a matrix, for one new token per row of x.

    Args:
      x: [R,K].
      matrix: [N,K].

    Returns:
      [R,N] in x's dtype.
    """

    def by_products(x: jax.Array, matrix: Matrix) -> jax.Array:
        if x.dtype != jnp.float32 or len(summands := matrix.summands()) == 1:
            return products(x, matrix)[0]
        # Halves that share bytes are multiplied separately, because a CPU would copy them first.
        terms = [x[:, start : start + w.shape[1]] @ w.T for start, w in summands]
        return _scaled(sum(terms[1:], terms[0]), matrix.factors(), x.dtype)

    if not are_few(x, matrix):
        return by_products(x, matrix)
    at_once = sums if matrix.fuses_with_rows(x.dtype) else _sums_row_by_row
    return jax.lax.platform_dependent(x, matrix, cuda=at_once, default=by_products)


def are_few(x: jax.Array, matrix: Matrix) -> bool:
    """Says whether x [R,K] has so few rows that a GPU should multiply it by `sums`."""
    return x.shape[0] <= (_FEW if matrix.is_widened(x.dtype) else 1)


def sums(
    x: Float[jax.Array, "r k"], matrix: Matrix, dtype: DTypeLike | None = None
) -> Float[jax.Array, "r n"]:
    """Multiplies x by each row of a matrix, by sums of products in float32.

    Args:
      x: [R,K].
      matrix: [N,K].
      dtype: of the result; None for x's.

    Returns:
      [R,N].
    """
    summands, wide = matrix.summands(), _unfused(x).astype(jnp.float32)

    def terms(row: jax.Array) -> jax.Array:
        each = [row[None, start : start + w.shape[1]] * w for start, w in summands]
        return sum(each[1:], each[0])

    y = jax.lax.reduce(
        [terms(wide[r]) for r in range(x.shape[0])],
        [np.float32(0)] * x.shape[0],
        lambda a, b: [p + q for p, q in zip(a, b, strict=True)],
        (1,),
    )
    y = jnp.stack(y)
    return _scaled(y, matrix.factors(), dtype or x.dtype)


def _sums_row_by_row(x: jax.Array, matrix: Matrix) -> jax.Array:
    done = []
    for r in range(x.shape[0]):
        # The barrier keeps the rows from sharing one widened matrix.
        row, matrix = jax.lax.optimization_barrier((x[r : r + 1], matrix))
        done.append(sums(row, matrix))
    return jnp.concatenate(done)


def _unfused(x: jax.Array) -> jax.Array:
    """Returns x behind a barrier, without which XLA tends to compute each row in its own kernel."""
    if x.shape[0] == 1:
        return jax.lax.optimization_barrier(x.astype(jnp.float32))
    return x if x.dtype == jnp.float32 else jax.lax.optimization_barrier(x)


def products(
    x: Float[jax.Array, "*b k"], matrix: Matrix, parts: int = 1
) -> tuple[Float[jax.Array, "*b n"], ...]:
    """Multiplies x by each row of a matrix, by matrix products.

    Args:
      x: [...,K].
      matrix: [N,K].
      parts: number of equal parts into which N is cut.

    Returns:
      For each part [...,N/parts] in x's dtype.
    """
    w, factors = matrix.floats(x.dtype), matrix.factors()
    # Every device holds all of the matrix, and multiplies its own rows of x by it.
    w = constrain(w.reshape(parts, -1, w.shape[1]), None, None, None)
    factors = [None] * parts if factors is None else factors.reshape(parts, -1)
    return tuple(
        _scaled(jnp.einsum("...k,nk->...n", x, part), factor, x.dtype)
        for part, factor in zip(w, factors, strict=True)
    )


def _scaled(y: jax.Array, factors: jax.Array | None, dtype: DTypeLike) -> jax.Array:
    if factors is None:
        return y.astype(dtype)
    factors = factors.reshape((1,) * (y.ndim - 1) + (-1,))
    return (y.astype(jnp.float32) * factors).astype(dtype)
