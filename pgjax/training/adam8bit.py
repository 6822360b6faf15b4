"""Adam with its moments in 8 bits (Dettmers et al., arXiv:2110.02861).

The values of a block of the last axis share a scale, which is their largest magnitude. A value
divided by its scale is stored in the paper's dynamic format: some bits give its power of ten, and
the remaining bits divide that decade evenly. Smaller values leave fewer bits for the division. The
codes of a moment have the shape of their parameter, so that both are sharded alike.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

BLOCK = 256  # values in a block; an axis that it does not divide is a single block
SMALL = 4096  # parameters with fewer values have float32 moments, as in the paper


class Packed(NamedTuple):
    """A moment in 8 bits."""

    codes: jax.Array  # uint8 [..., D]; the highest bit of a signed code is its sign
    scales: jax.Array  # float32 [..., D/block], the largest magnitude of each block


Moment = Packed | jax.Array


class Adam8bitState(NamedTuple):
    """Number of updates, and both moments by parameter name; small parameters have float32 ones."""

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride] # optax calls it so too
    mu: dict[str, Moment]
    nu: dict[str, Moment]


def pack(x: jax.Array, *, signed: bool) -> Packed:
    """Quantizes float32 [..., D] to 8 bits; no value but 0 becomes 0."""
    blocks = _blocks(x)
    scales = jnp.max(jnp.abs(blocks), axis=-1)
    y = jnp.abs(blocks) / jnp.where(scales == 0, 1.0, scales)[..., None]
    decades = 7 if signed else 8
    # Decade i holds the magnitudes from 10^(i-decades) to ten times that, in 2^i codes from 2^i on.
    i = jnp.clip(jnp.floor(jnp.log10(jnp.maximum(y, 1e-30))) + decades, 0, decades - 1)
    within = (y * 10.0 ** (decades - 1 - i) - 0.1) / 0.9
    count = 2.0**i
    codes = count + jnp.clip(jnp.floor(within * count), 0, count - 1)
    codes = jnp.where(y == 0, 0, codes).astype(jnp.uint8)
    if signed:
        codes |= (blocks < 0).astype(jnp.uint8) << 7
    return Packed(codes.reshape(x.shape), scales)


def unpack(packed: Packed, *, signed: bool) -> jax.Array:
    """Returns the values that codes stand for, the middles of their intervals: float32 [..., D]."""
    blocks = _blocks(packed.codes)
    code = (blocks & 127 if signed else blocks).astype(jnp.float32)
    decades = 7 if signed else 8
    i = jnp.floor(jnp.log2(jnp.maximum(code, 1.0)) + 1e-4)
    count = 2.0**i
    y = (0.1 + 0.9 * (code - count + 0.5) / count) * 10.0 ** (i - (decades - 1))
    y = jnp.where(code == 0, 0.0, y) * packed.scales[..., None]
    if signed:
        y = jnp.where(blocks >= 128, -y, y)
    return y.reshape(packed.codes.shape)


def _blocks(x: jax.Array) -> jax.Array:
    d = x.shape[-1]
    return x.reshape(*x.shape[:-1], -1, BLOCK if d % BLOCK == 0 else d)


def scale_by_adam8bit(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Returns `optax.scale_by_adam` with moments in 8 bits, for a flat dict of parameters.

    Args:
      b1: the decay of the first moment.
      b2: the decay of the second moment.
      eps: the number that is added to the root of the second moment.
    """

    def init(params: optax.Params) -> Adam8bitState:
        flat = cast(dict[str, jax.Array], params)

        def empty(signed: bool) -> dict[str, Moment]:
            zeros = {n: jnp.zeros(p.shape, jnp.float32) for n, p in flat.items()}
            return {n: x if x.size < SMALL else pack(x, signed=signed) for n, x in zeros.items()}

        return Adam8bitState(jnp.zeros((), jnp.int32), empty(True), empty(False))

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        del params
        grads, state = cast(dict[str, jax.Array], updates), cast(Adam8bitState, state)
        count = state.count + 1
        corrections = [1 - b ** count.astype(jnp.float32) for b in (b1, b2)]

        def one(grad: jax.Array, mu: Moment, nu: Moment) -> tuple[jax.Array, Moment, Moment]:
            g = grad.astype(jnp.float32)
            m = b1 * (unpack(mu, signed=True) if isinstance(mu, Packed) else mu) + (1 - b1) * g
            v = b2 * (unpack(nu, signed=False) if isinstance(nu, Packed) else nu) + (1 - b2) * g * g
            step = ((m / corrections[0]) / (jnp.sqrt(v / corrections[1]) + eps)).astype(grad.dtype)
            if isinstance(mu, Packed):
                return step, pack(m, signed=True), pack(v, signed=False)
            return step, m, v

        done = {n: _in_slices(one, g, state.mu[n], state.nu[n]) for n, g in grads.items()}
        steps, mu, nu = ({n: x[k] for n, x in done.items()} for k in range(3))
        return steps, Adam8bitState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def _in_slices(one: Callable[..., tuple], grad: jax.Array, mu: Moment, nu: Moment) -> Any:
    """Updates a parameter in slices and in place, so that float32 moments exist for one slice only.

    A stack of layers is cut into its layers. A matrix is cut into sixteenths, which may lie on
    different devices, and each of these into slices of its rows.

    Args:
      one: computes the step and both moments of a slice.
      grad: the gradient.
      mu: the first moment.
      nu: the second moment.

    Returns:
      The step and both moments.
    """
    if not isinstance(mu, Packed) or grad.ndim == 1:
        return one(grad, mu, nu)
    cut, axis, slices = grad.ndim < 3, 0, grad.shape[0]
    values = (grad, mu, nu)
    if cut:
        axis = 1
        parts = math.gcd(grad.shape[0], 16)
        slices = math.gcd(grad.shape[0] // parts, 8)
        values = jax.tree.map(lambda x: x.reshape(parts, slices, -1, *x.shape[1:]), values)

    def body(i: jax.Array, values: Any) -> Any:
        part = jax.tree.map(
            lambda x: jax.lax.dynamic_index_in_dim(x, i, axis, keepdims=False), values
        )
        return jax.tree.map(
            lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, i, axis), values, one(*part)
        )

    values = jax.lax.fori_loop(jnp.int32(0), jnp.int32(slices), body, values)
    if cut:
        values = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), values)
    return values
