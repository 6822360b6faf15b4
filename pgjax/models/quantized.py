"""Weights in 4 or 8 bits, stored as `pgjax.models.rows` does: [N,K], one output channel per row.

`int8` has 255 even levels, and one scale for each output channel. The scale multiplies the sum, so
that a product needs nothing but the codes.

`int4` has 16 even levels, and a bfloat16 scale for each 64 weights of an output channel. Among 64
weights the one of largest magnitude gets level -8, whatever its sign, as in llama.cpp's Q4_0.

`nf4` is NF4 with double quantization as in QLoRA (Dettmers et al., arXiv:2305.14314). Blocks of 64
weights, in the order of the parameter's axes, share a scale, which is their largest magnitude. Each
weight becomes the nearest of 16 levels that normally distributed weights use equally often. The
scales in turn are stored in 8 bits, in groups of 256, relative to the layer's mean scale.

Two 4-bit codes share a byte, those of columns j and j + K/2, so that both halves of x meet their
codes without either being moved.
"""

import math

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from pgjax.errors import UserError
from pgjax.models.rows import Matrix, Rows, from_rows, to_rows
from pgjax.sharding import constrain

BLOCK = 64  # weights that share a scale
GROUP = 256  # blocks whose scales share a step
KINDS = ("int8", "int4", "nf4")

# Appendix E of the paper: quantiles of a normal distribution, scaled to -1..1, with a zero.
NF4 = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ],
    np.float32,
)  # fmt: skip
_BETWEEN = (NF4[1:] + NF4[:-1]) / 2


@flax.struct.dataclass
class Quantized:
    """One quantized layer of a parameter, which `rows.times` and `rows.products` multiply by.

    Stacked layers have an axis of size L before the others of each array, which a scan slices.
    """

    codes: jax.Array  # int8 [N,K] for `int8`; uint8 [N,K/2] for `int4` and `nf4`
    shape: tuple[int, ...] = flax.struct.field(pytree_node=False)  # shape of the layer
    summed: tuple[int, ...] = flax.struct.field(pytree_node=False)  # axes of the layer that make K

    @property
    def nbytes(self) -> int:
        """The size of codes and scales in bytes."""
        return sum(x.nbytes for x in jax.tree.leaves(self))

    def summands(self) -> list[tuple[int, jax.Array]]:
        """Returns float32 weights by their first column, as `rows.Matrix.summands` specifies."""
        raise NotImplementedError

    def floats(self, dtype: jnp.dtype) -> jax.Array:
        """Returns the weights [N,K], to be scaled by `factors`."""
        raise NotImplementedError

    def factors(self) -> jax.Array | None:
        """Returns the float32 scales [N] of the output channels, or None without such scales."""
        return None

    def is_widened(self, dtype: jnp.dtype) -> bool:
        """Says whether `floats` takes memory of its own on a GPU that multiplies in this dtype."""
        return True

    def fuses_with_rows(self, dtype: jnp.dtype) -> bool:
        """Says whether one GPU kernel sums for several rows of x, which have this dtype."""
        return True


@flax.struct.dataclass
class Int8(Quantized):
    """Codes of 255 even levels, with one scale for each output channel."""

    scales: jax.Array  # float32 [N]

    def summands(self) -> list[tuple[int, jax.Array]]:
        """Returns the codes as float32, which begin at column 0."""
        return [(0, self.codes.astype(jnp.float32))]

    def floats(self, dtype: jnp.dtype) -> jax.Array:
        """Returns the codes [N,K], to be scaled by `factors`."""
        return self.codes.astype(dtype)

    def factors(self) -> jax.Array:
        """Returns the float32 scales [N] of the output channels."""
        return self.scales

    def is_widened(self, dtype: jnp.dtype) -> bool:
        """Says that only float32 takes memory; Triton, used for bfloat16, widens as it reads."""
        return dtype == jnp.float32


@flax.struct.dataclass
class _FourBits(Quantized):
    """A quantized layer with two codes to a byte."""

    def halves(self) -> list[jax.Array]:
        """Returns the weights of the first and of the last K/2 columns, float32 [N,K/2] each."""
        raise NotImplementedError

    def summands(self) -> list[tuple[int, jax.Array]]:
        """Returns both halves as float32, which begin at columns 0 and K/2."""
        low, high = self.halves()
        return [(0, low), (low.shape[1], high)]

    def floats(self, dtype: jnp.dtype) -> jax.Array:
        """Returns the weights [N,K]."""
        return jnp.concatenate([x.astype(dtype) for x in self.halves()], axis=1)


@flax.struct.dataclass
class Int4(_FourBits):
    """Codes of 16 even levels in two's complement, with a scale for each 64 weights."""

    scales: jax.Array  # bfloat16 [N,K/64], a sixteenth of a level

    def halves(self) -> list[jax.Array]:
        """Returns the weights of the first and of the last K/2 columns, float32 [N,K/2] each."""
        # In the upper half of a byte, a code is sixteen times its value, with its sign.
        codes = [self.codes << 4, self.codes & 0xF0]
        size = 2 * self.codes.shape[1] // self.scales.shape[1]
        scales = jnp.split(self.scales.astype(jnp.float32), 2, axis=1)
        return [
            jax.lax.bitcast_convert_type(c, jnp.int8).astype(jnp.float32)
            * jnp.repeat(s, size, axis=1)
            for c, s in zip(codes, scales, strict=True)
        ]


@flax.struct.dataclass
class Nf4(_FourBits):
    """Codes of NF4's 16 levels, with a scale for each 64 weights, itself quantized to 8 bits."""

    scales: jax.Array  # int8 [N·K/64], relative to group and mean, in the parameter's order
    groups: jax.Array  # float32 [G], each group's largest distance of a scale from the mean
    mean: jax.Array  # float32 scalar, mean scale of the layer

    def halves(self) -> list[jax.Array]:
        """Returns the weights of the first and of the last K/2 columns, float32 [N,K/2] each."""
        scales = jnp.split(self._scale_rows(), 2, axis=1)
        return [
            jnp.asarray(NF4).at[code].get(mode="promise_in_bounds") * scale
            for code, scale in zip([self.codes & 15, self.codes >> 4], scales, strict=True)
        ]

    def fuses_with_rows(self, dtype: jnp.dtype) -> bool:
        """Says that float32 does not fuse, because such GPUs look up levels too slowly."""
        return dtype != jnp.float32

    def _scale_rows(self) -> jax.Array:
        """Returns the scale of each weight, float32 [N,K]."""
        scale = _block_scales(self.scales, self.groups, self.mean)
        last = self.shape[-1]
        if last % BLOCK or len(self.shape) - 1 in self.summed:  # a block spans several rows
            return to_rows(jnp.repeat(scale, BLOCK).reshape(self.shape), self.summed)
        blocks = to_rows(scale.reshape(*self.shape[:-1], last // BLOCK), self.summed)
        return jnp.repeat(blocks, BLOCK, axis=0)


def quantize(layer: jax.Array, kind: str, summed: tuple[int, ...]) -> Quantized:
    """Quantizes one layer of a parameter.

    Args:
      layer: floats of a shape that `fits`.
      kind: int8, int4 or nf4.
      summed: the axes that a product sums over.

    Raises:
      UserError: the kind is unknown.
    """
    check_kind(kind)
    return {"int8": _int8, "int4": _int4, "nf4": _nf4}[kind](layer.astype(jnp.float32), summed)


def _int8(layer: jax.Array, summed: tuple[int, ...]) -> Int8:
    x = to_rows(layer, summed)
    scales = jnp.max(jnp.abs(x), axis=1) / 127
    codes = jnp.round(x / jnp.where(scales == 0, 1.0, scales)[:, None]).astype(jnp.int8)
    return Int8(codes, layer.shape, summed, scales)


def _int4(layer: jax.Array, summed: tuple[int, ...]) -> Int4:
    x = to_rows(layer, summed)
    n, k = x.shape
    x = x.reshape(n, -1, math.gcd(BLOCK, k // 2))
    largest = jnp.take_along_axis(x, jnp.argmax(jnp.abs(x), axis=2, keepdims=True), axis=2)
    # Weights are coded relative to the rounded scale that will multiply them.
    scales = (largest / (-8 * 16)).astype(jnp.bfloat16)
    level = scales.astype(jnp.float32) * 16
    codes = jnp.clip(jnp.round(x / jnp.where(level == 0, 1.0, level)), -8, 7).astype(jnp.int8)
    codes = jax.lax.bitcast_convert_type(codes.reshape(n, k), jnp.uint8) & 15
    return Int4(_packed(codes), layer.shape, summed, scales[:, :, 0])


def _nf4(layer: jax.Array, summed: tuple[int, ...]) -> Nf4:
    x = layer.reshape(-1, BLOCK)
    absmax = jnp.max(jnp.abs(x), axis=1)
    mean = jnp.mean(absmax)
    deviation = _pad_to_groups(absmax - mean)
    groups = jnp.max(jnp.abs(deviation), axis=1)
    steps = jnp.where(groups > 0, groups, 1.0)[:, None] / 127
    scales = jnp.round(deviation / steps).astype(jnp.int8).reshape(-1)[: absmax.size]
    # Weights are coded relative to the rounded scale that will multiply them.
    scale = _block_scales(scales, groups, mean)
    x = x / jnp.where(scale == 0, 1.0, scale)[:, None]
    codes = sum((x > edge).astype(jnp.uint8) for edge in _BETWEEN)
    codes = to_rows(jnp.reshape(codes, layer.shape), summed)
    return Nf4(_packed(codes), layer.shape, summed, scales, groups, mean)


def dequantize(q: Quantized, dtype: jnp.dtype) -> jax.Array:
    """Returns a quantized layer as a float array of its own shape."""
    x, factors = q.floats(jnp.float32), q.factors()
    x = x if factors is None else x * factors[:, None]
    return from_rows(x, q.shape, q.summed).astype(dtype)


def _packed(codes: jax.Array) -> jax.Array:
    """Packs 4-bit codes, uint8 [N,K], into bytes [N,K/2]."""
    low, high = jnp.split(codes, 2, axis=1)
    return low | high << 4


def _block_scales(scales: jax.Array, groups: jax.Array, mean: jax.Array) -> jax.Array:
    """Recovers the scales of blocks: int8 [N·K/64] -> float32 [N·K/64], none of them negative."""
    step = jnp.repeat(groups / 127, GROUP)[: scales.size]
    return jnp.maximum(scales.astype(jnp.float32) * step + mean, 0.0)


def _pad_to_groups(x: jax.Array) -> jax.Array:
    return jnp.pad(x, (0, -x.size % GROUP)).reshape(-1, GROUP)


def stored_matrix(module: nn.Module, name: str) -> Matrix | None:
    """Returns a module's parameter if it is stored as [N,K], in floats or codes; else None."""
    if not module.has_variable("params", name):
        return None
    value = module.get_variable("params", name)
    if isinstance(value, Quantized):
        # Devices that split the codes gather these, and not the floats, which are up to eight times
        # as large.
        return jax.tree.map(lambda x: constrain(x, *(None,) * x.ndim), value)
    return value if isinstance(value, Rows) else None


def check_kind(kind: str, where: str = "quantize") -> None:
    """Checks the name of a quantization.

    Args:
      kind: the name.
      where: the flag or config key that it comes from, for the message.

    Raises:
      UserError: the name is unknown.
    """
    if kind not in KINDS:
        raise UserError(f"{where} is {kind!r}, expected one of {KINDS}.")


def fits(shape: tuple[int, ...], summed: tuple[int, ...]) -> bool:
    """Says whether a layer splits into whole blocks, and its summed axes into two halves.

    Args:
      shape: shape of the layer.
      summed: the axes that a product sums over.
    """
    return (
        len(shape) > 1
        and math.prod(shape) % BLOCK == 0
        and math.prod(shape[a] for a in summed) % 2 == 0
    )
