"""Adam with its moments in 8 bits (Dettmers et al., arXiv:2110.02861).

Blocks of the last axis share a scale, their largest magnitude. A value relative to it is kept in
the paper's dynamic form: the further from 1, the more of the bits say which power of ten it has,
and the rest divide that decade evenly. A code has its parameter's shape, so that the devices which
split the one split the other alike.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

BLOCK = 256  # of the last axis where it divides; otherwise the whole axis is one
SMALL = 4096  # parameters with fewer values keep float32 moments, as the paper's do


class Packed(NamedTuple):
    """A moment in 8 bits."""

    codes: jax.Array  # uint8 [...,D]; of a signed one the highest bit is the sign
    scales: jax.Array  # float32 [...,D/block], largest magnitudes


class Adam8bitState(NamedTuple):
    """Moments by parameter name: `Packed`, or float32 where a parameter is small."""

    count: jax.Array
    mu: dict[str, Packed | jax.Array]
    nu: dict[str, Packed | jax.Array]


def pack(x: jax.Array, *, signed: bool) -> Packed:
    """float32 [...,D] in 8 bits; what is not 0 never becomes 0."""
    blocks = _blocks(x)
    scales = jnp.max(jnp.abs(blocks), axis=-1)
    y = jnp.abs(blocks) / jnp.where(scales == 0, 1.0, scales)[..., None]
    decades = 7 if signed else 8
    # In decade i, of magnitudes 10^(i-decades) to ten times that, 2^i codes from 2^i on.
    i = jnp.clip(jnp.floor(jnp.log10(jnp.maximum(y, 1e-30))) + decades, 0, decades - 1)
    within = (y * 10.0 ** (decades - 1 - i) - 0.1) / 0.9
    count = 2.0**i
    codes = count + jnp.clip(jnp.floor(within * count), 0, count - 1)
    codes = jnp.where(y == 0, 0, codes).astype(jnp.uint8)
    if signed:
        codes |= (blocks < 0).astype(jnp.uint8) << 7
    return Packed(codes.reshape(x.shape), scales)


def unpack(packed: Packed, *, signed: bool) -> jax.Array:
    """float32 [...,D], the middles of the codes' intervals."""
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
    """`optax.scale_by_adam` over a flat dict of parameters, with moments of a quarter the size."""

    def init(params):
        def empty(signed):
            zeros = {n: jnp.zeros(p.shape, jnp.float32) for n, p in params.items()}
            return {n: x if x.size < SMALL else pack(x, signed=signed) for n, x in zeros.items()}

        return Adam8bitState(jnp.zeros((), jnp.int32), empty(True), empty(False))

    def update(grads, state, params=None):
        del params
        count = state.count + 1
        corrections = [1 - b ** count.astype(jnp.float32) for b in (b1, b2)]

        def one(grad, mu, nu):
            packed = isinstance(mu, Packed)
            g = grad.astype(jnp.float32)
            m = b1 * (unpack(mu, signed=True) if packed else mu) + (1 - b1) * g
            v = b2 * (unpack(nu, signed=False) if packed else nu) + (1 - b2) * g * g
            step = (m / corrections[0]) / (jnp.sqrt(v / corrections[1]) + eps)
            if packed:
                m, v = pack(m, signed=True), pack(v, signed=False)
            return step.astype(grad.dtype), m, v

        done = {n: _in_slices(one, g, state.mu[n], state.nu[n]) for n, g in grads.items()}
        updates, mu, nu = ({n: x[k] for n, x in done.items()} for k in range(3))
        return updates, Adam8bitState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def _in_slices(one, grad, mu, nu):
    """A slice after the other, written where it came from: float32 moments exist of one slice only.

    A stack of layers is cut into its layers. Of a matrix each sixteenth, which a device may hold
    alone, is cut into slices of its rows.
    """
    if not isinstance(mu, Packed) or grad.ndim == 1:
        return one(grad, mu, nu)
    cut, axis = grad.ndim < 3, 0
    values = (grad, mu, nu)
    if cut:
        axis = 1
        parts = math.gcd(grad.shape[0], 16)
        slices = math.gcd(grad.shape[0] // parts, 8)
        values = jax.tree.map(lambda x: x.reshape(parts, slices, -1, *x.shape[1:]), values)

    def body(i, values):
        part = jax.tree.map(
            lambda x: jax.lax.dynamic_index_in_dim(x, i, axis, keepdims=False), values
        )
        return jax.tree.map(
            lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, i, axis), values, one(*part)
        )

    count = jnp.int32(slices if cut else grad.shape[0])
    values = jax.lax.fori_loop(jnp.int32(0), count, body, values)
    if cut:
        values = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), values)
    return values
