"""Weights in 4 or 8 bits, made float again one layer at a time.

NF4 and double quantization are those of QLoRA (Dettmers et al., arXiv:2305.14314): blocks of 64
weights share a scale, their largest magnitude; each weight becomes the nearest of 16 levels that
a normal distribution uses alike often; the scales in turn are kept in 8 bits, in groups of 256,
relative to the layer's mean scale. `int8` has 255 even levels instead.

qwix (0.1.8) has NF4 as well, but scales in floating point only, and one code to an array element,
which is a byte on a CPU; at 3B parameters that is another gigabyte.
"""

import math

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from pgjax.errors import UserError
from pgjax.sharding import constrain

BLOCK = 64
GROUP = 256  # blocks
KINDS = ("nf4", "int8")

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
    """One layer of a parameter; stacked layers have L before each field, and a scan slices it."""

    codes: jax.Array  # NF4: uint8 [N/2], the first of two codes in the high half; int8: [N]
    scales: jax.Array  # int8 [N/64], relative to group and mean
    groups: jax.Array  # float32 [G], largest distance of a scale from the mean
    mean: jax.Array  # float32
    shape: tuple[int, ...] = flax.struct.field(pytree_node=False)  # of one layer

    @property
    def nbytes(self) -> int:
        """Of all fields."""
        return sum(x.nbytes for x in jax.tree.leaves(self))


def quantize(layer: jax.Array, kind: str) -> Quantized:
    """Quantizes one layer of a parameter.

    Args:
      layer: any shape with a multiple of 64 values.
      kind: nf4 or int8.

    Raises:
      UserError: an unknown kind.
    """
    check_kind(kind)
    x = layer.astype(jnp.float32).reshape(-1, BLOCK)
    absmax = jnp.max(jnp.abs(x), axis=1)
    mean = jnp.mean(absmax)
    deviation = _pad_to_groups(absmax - mean)
    groups = jnp.max(jnp.abs(deviation), axis=1)
    steps = jnp.where(groups > 0, groups, 1.0)[:, None] / 127
    scales = jnp.round(deviation / steps).astype(jnp.int8).reshape(-1)[: absmax.size]
    # Weights are coded against the scale that they will be multiplied with.
    scale = _scale(scales, groups, mean)
    x = x / jnp.where(scale == 0, 1.0, scale)[:, None]
    if kind == "int8":
        codes = jnp.clip(jnp.round(x * 127), -127, 127).astype(jnp.int8).reshape(-1)
    else:
        codes = sum((x > edge).astype(jnp.uint8) for edge in _BETWEEN).reshape(-1, 2)
        codes = codes[:, 0] << 4 | codes[:, 1]
    return Quantized(codes, scales, groups, mean, layer.shape)


def dequantize(q: Quantized, dtype: jnp.dtype) -> jax.Array:
    """One layer as a float array of its shape."""
    scale = _scale(q.scales, q.groups, q.mean)[:, None]
    if q.codes.dtype == jnp.uint8:
        pairs = jnp.stack([q.codes >> 4, q.codes & 15], axis=-1)
        x = jnp.asarray(NF4)[pairs.reshape(-1, BLOCK)] * scale
    else:
        x = q.codes.reshape(-1, BLOCK).astype(jnp.float32) / 127 * scale
    return x.reshape(q.shape).astype(dtype)


def _scale(scales: jax.Array, groups: jax.Array, mean: jax.Array) -> jax.Array:
    """int8 [N/64] -> float32 [N/64]; never negative."""
    step = jnp.repeat(groups / 127, GROUP)[: scales.size]
    return jnp.maximum(scales.astype(jnp.float32) * step + mean, 0.0)


def _pad_to_groups(x: jax.Array) -> jax.Array:
    return jnp.pad(x, (0, -x.size % GROUP)).reshape(-1, GROUP)


def weight(module: nn.Module, name: str, init, shape: tuple[int, ...], dtype) -> jax.Array:
    """A module's parameter in `dtype`, made float where it is kept quantized."""
    if module.has_variable("params", name):
        value = module.get_variable("params", name)
        if isinstance(value, Quantized):
            # Where devices split the codes, these are gathered, and not the eight times larger
            # floats.
            value = jax.tree.map(lambda x: constrain(x, *(None,) * x.ndim), value)
            return dequantize(value, dtype)
    return module.param(name, init, shape).astype(dtype)


def check_kind(kind: str, where: str = "quantize") -> None:
    """Checks the name of a quantization.

    Raises:
      UserError: an unknown one; `where` is the key it came from.
    """
    if kind not in KINDS:
        raise UserError(f"{where} is {kind!r}, expected one of {KINDS}.")


def fits(shape: tuple[int, ...]) -> bool:
    """Whether the layers of a parameter [L,…] split into whole blocks."""
    return len(shape) > 2 and math.prod(shape[1:]) % BLOCK == 0
