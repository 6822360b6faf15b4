"""Products with matrices that are kept in a form for answering: [N,K], an output channel to a row.

N counts output channels, K what is summed over, R the rows of x. A token of an answer is bound by
reading the matrices, so that they have to be read once, as they are kept: in half precision, or as
codes. On a GPU a sum of products over the last axis compiles to one kernel that widens what it has
read, for several rows of x too; a matrix product in the library's kernels would have it widened in
memory first.
"""

from typing import Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from pgjax.sharding import constrain

# Rows of x for which a GPU takes a sum of products. From then on its matrix units are faster.
_FEW = 8


class Matrix(Protocol):
    """What `times` and `products` take."""

    def summands(self) -> list[tuple[int, jax.Array]]:
        """Columns of x from an offset, and float32 [N,K'] to multiply them with."""
        ...

    def floats(self, dtype: jnp.dtype) -> jax.Array:
        """[N,K] to multiply x of this dtype with."""
        ...

    def factors(self) -> jax.Array | None:
        """Float32 [N], what sums are multiplied with in the end."""
        ...

    def is_widened(self, dtype: jnp.dtype) -> bool:
        """Whether `floats` takes memory of its own where a GPU multiplies in this dtype."""
        ...

    def fuses_with_rows(self, dtype: jnp.dtype) -> bool:
        """Whether one kernel sums for several rows of x, which are of this dtype."""
        ...


@flax.struct.dataclass
class Rows:
    """One layer of a float parameter, kept as [N,K]."""

    values: jax.Array
    shape: tuple[int, ...] = flax.struct.field(pytree_node=False)  # of the parameter's layer
    summed: tuple[int, ...] = flax.struct.field(pytree_node=False)  # its axes that make K

    @property
    def nbytes(self) -> int:
        """As of an array."""
        return self.values.nbytes

    def summands(self) -> list[tuple[int, jax.Array]]:
        """See `Matrix`."""
        return [(0, self.values.astype(jnp.float32))]

    def floats(self, dtype: jnp.dtype) -> jax.Array:
        """See `Matrix`."""
        return self.values.astype(dtype)

    def factors(self) -> None:
        """See `Matrix`."""
        return None

    def is_widened(self, dtype: jnp.dtype) -> bool:
        """See `Matrix`; Triton, which compiles for bfloat16, widens what it has read."""
        return dtype == jnp.float32 != self.values.dtype

    def fuses_with_rows(self, dtype: jnp.dtype) -> bool:
        """See `Matrix`."""
        return True


def to_rows(layer: jax.Array, summed: tuple[int, ...]) -> jax.Array:
    """A parameter's layer as [N,K]; `summed` are the axes that make K."""
    kept = [a for a in range(layer.ndim) if a not in summed]
    k = 1
    for a in summed:
        k *= layer.shape[a]
    return layer.transpose(*kept, *summed).reshape(-1, k)


def from_rows(rows: jax.Array, shape: tuple[int, ...], summed: tuple[int, ...]) -> jax.Array:
    """What `to_rows` was given."""
    order = [a for a in range(len(shape)) if a not in summed] + list(summed)
    x = rows.reshape([shape[a] for a in order])
    return x.transpose([order.index(a) for a in range(len(shape))])


def times(x: jax.Array, matrix: Matrix) -> jax.Array:
    """[R,K] times each row of a matrix [N,K]: [R,N] in x's dtype, for a token of an answer."""

    def by_products(x: jax.Array, matrix: Matrix) -> jax.Array:
        if x.dtype != jnp.float32 or len(summands := matrix.summands()) == 1:
            return products(x, matrix)[0]
        # Halves that share their bytes are multiplied apart, for a CPU would copy them first.
        terms = [x[:, start : start + w.shape[1]] @ w.T for start, w in summands]
        return _scaled(sum(terms[1:], terms[0]), matrix.factors(), x.dtype)

    if not are_few(x, matrix):
        return by_products(x, matrix)
    at_once = sums if matrix.fuses_with_rows(x.dtype) else _sums_row_by_row
    return jax.lax.platform_dependent(x, matrix, cuda=at_once, default=by_products)


def are_few(x: jax.Array, matrix: Matrix) -> bool:
    """Whether a GPU should take `sums` for [R,K]."""
    return x.shape[0] <= (_FEW if matrix.is_widened(x.dtype) else 1)


def sums(x: jax.Array, matrix: Matrix, dtype: jnp.dtype | None = None) -> jax.Array:
    """As `times`, by sums of products in float32; in `dtype`, or x's."""
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
        # Apart, for else they would share one widened matrix.
        row, matrix = jax.lax.optimization_barrier((x[r : r + 1], matrix))
        done.append(sums(row, matrix))
    return jnp.concatenate(done)


def _unfused(x: jax.Array) -> jax.Array:
    """x, made so that no row of it is put apart by a kernel of its own, which XLA tends to."""
    if x.shape[0] == 1:
        return jax.lax.optimization_barrier(x.astype(jnp.float32))
    return x if x.dtype == jnp.float32 else jax.lax.optimization_barrier(x)


def products(x: jax.Array, matrix: Matrix, parts: int = 1) -> tuple[jax.Array, ...]:
    """[...,K] times each row of a matrix [N,K], by matrix products.

    Args:
      x: [...,K].
      matrix: [N,K].
      parts: equal ones that N is cut into.

    Returns:
      A [...,N/parts] in x's dtype for each part.
    """
    w, factors = matrix.floats(x.dtype), matrix.factors()
    # Every device has all codes, and multiplies with its share of the floats.
    w = constrain(w.reshape(parts, -1, w.shape[1]), None, None, None)
    factors = [None] * parts if factors is None else factors.reshape(parts, -1)
    return tuple(
        _scaled(jnp.einsum("...k,nk->...n", x, part), factor, x.dtype)
        for part, factor in zip(w, factors, strict=True)
    )


def _scaled(y: jax.Array, factors: jax.Array | None, dtype: jnp.dtype) -> jax.Array:
    if factors is None:
        return y.astype(dtype)
    factors = factors.reshape((1,) * (y.ndim - 1) + (-1,))
    return (y.astype(jnp.float32) * factors).astype(dtype)
