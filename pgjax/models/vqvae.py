"""The mask codec: 64×64 masks to 16 codes out of 128, and back (VQ-VAE, arXiv:1711.00937).

Parameters have the names and layouts of the released `vae-oid.npz`: convolution kernels are
[out,in,h,w], those of transposed convolutions [in,out,h,w]. Widths follow from the weights.
"""

import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32, Int32

Params = Mapping[str, jax.Array]

SIDE = 64  # height and width of a mask in pixels
CODES = 16  # codes of a mask, a grid of 4 × 4
CODEBOOK = "_vq_vae._embedding"

_DIMENSIONS = ("NHWC", "OIHW", "NHWC")


def shapes(
    widths: tuple[int, ...] = (16, 32, 64, 128), code_dim: int = 512, num_codes: int = 128
) -> dict[str, tuple[int, ...]]:
    """Returns the names and shapes of all parameters.

    Args:
      widths: channels after each time that the encoder halves the image; the decoder mirrors them.
      code_dim: size of a code vector.
      num_codes: rows of the codebook.
    """
    top = widths[-1]
    kernels = {}
    for i, (before, after) in enumerate(zip((1, *widths), widths, strict=False)):
        kernels[f"encoder.{2 * i}"] = (after, before, 4, 4)
    kernels |= _residual_shapes("encoder.8", top) | _residual_shapes("encoder.9", top)
    kernels["encoder.10"] = (code_dim, top, 1, 1)
    kernels["decoder.0"] = (top, code_dim, 1, 1)
    kernels |= _residual_shapes("decoder.2", top) | _residual_shapes("decoder.3", top)
    up = (top, *widths[::-1])
    for i, (before, after) in enumerate(itertools.pairwise(up)):
        kernels[f"decoder.{4 + 2 * i}"] = (before, after, 4, 4)
    kernels["decoder.12"] = (1, widths[0], 1, 1)
    result = {CODEBOOK: (num_codes, code_dim)}
    for name, shape in kernels.items():
        transposed = name in ("decoder.4", "decoder.6", "decoder.8", "decoder.10")
        result |= {f"{name}.weight": shape, f"{name}.bias": (shape[1 if transposed else 0],)}
    return result


def _residual_shapes(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.net.{2 * i}": (width, width, k, k) for i, k in enumerate((3, 3, 1))}


def encode(params: Params, masks: Float32[jax.Array, "n 64 64"]) -> Int32[jax.Array, "n 16"]:
    """Encodes masks.

    Args:
      params: from the released file, by name.
      masks: float32 [N,64,64] in 0..1.

    Returns:
      int32 [N,16], the codes of the 4 × 4 grid, row by row.
    """
    return nearest(params[CODEBOOK], encoder(params, masks)).reshape(-1, CODES)


def decode(params: Params, codes: Int32[jax.Array, "n 16"]) -> Float32[jax.Array, "n 64 64"]:
    """Decodes masks.

    Args:
      params: from the released file, by name.
      codes: int32 [N,16], the codes of the 4 × 4 grid, row by row.

    Returns:
      float32 [N,64,64], about -1 outside and 1 inside the mask.
    """
    return decoder(params, jnp.take(params[CODEBOOK], codes.reshape(-1, 4, 4), axis=0))


def nearest(
    codebook: Float[jax.Array, "k d"], x: Float[jax.Array, "*b d"]
) -> Int32[jax.Array, "*b"]:
    """Returns the index of the row of a codebook [K,D] nearest to each vector of x [...,D]."""
    # Distances are |x - c|² without |x|², which is the same for every c.
    dots = jnp.einsum("...D,KD->...K", x, codebook)
    norms = jnp.expand_dims(jnp.sum(jnp.square(codebook), axis=1), range(dots.ndim - 1))
    return jnp.argmin(norms - 2.0 * dots, axis=-1).astype(jnp.int32)


def encoder(params: Params, masks: jax.Array) -> jax.Array:
    """Encodes masks float32 [N,64,64] in 0..1 as vectors [N,4,4,D], before the codebook."""
    x = masks[..., None] * 2.0 - 1.0
    for i in range(4):
        x = jax.nn.relu(_conv(params, f"encoder.{2 * i}", x, stride=2, pad=1))
    x = _residual(params, "encoder.8", x)
    x = _residual(params, "encoder.9", x)
    return _conv(params, "encoder.10", x)


def decoder(params: Params, x: jax.Array) -> jax.Array:
    """Decodes code vectors [N,4,4,D] into float32 [N,64,64]."""
    x = jax.nn.relu(_conv(params, "decoder.0", x))
    x = _residual(params, "decoder.2", x)
    x = _residual(params, "decoder.3", x)
    for i in range(4):
        x = jax.nn.relu(_double(params, f"decoder.{4 + 2 * i}", x))
    return _conv(params, "decoder.12", x)[..., 0]


def _residual(params: Params, name: str, x: jax.Array) -> jax.Array:
    y = jax.nn.relu(_conv(params, f"{name}.net.0", x, pad=1))
    y = jax.nn.relu(_conv(params, f"{name}.net.2", y, pad=1))
    return x + _conv(params, f"{name}.net.4", y)


def _conv(params: Params, name: str, x: jax.Array, stride: int = 1, pad: int = 0) -> jax.Array:
    y = jax.lax.conv_general_dilated(
        x, params[f"{name}.weight"], (stride, stride), [(pad, pad)] * 2,
        dimension_numbers=_DIMENSIONS,
    )  # fmt: skip
    return y + params[f"{name}.bias"][None, None, None]


def _double(params: Params, name: str, x: jax.Array) -> jax.Array:
    """Doubles height and width by a transposed 4×4 convolution of stride 2."""
    kernel = jnp.flip(params[f"{name}.weight"], (2, 3)).swapaxes(0, 1)
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), [(2, 2)] * 2, lhs_dilation=(2, 2), dimension_numbers=_DIMENSIONS
    )
    return y + params[f"{name}.bias"][None, None, None]
