"""The attention that both towers call, and the choice of its implementation.

Einsum letters: B rows, T queries, S keys, K key/value heads, G queries per key head, H head size.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from pgjax.errors import UserError
from pgjax.models import attention_kernels as kernels
from pgjax.models.attention_blocks import attend_in_blocks
from pgjax.models.attention_plain import attend_plainly, soft_cap
from pgjax.sharding import device, model_size, over_mesh

__all__ = [
    "IMPLEMENTATIONS",
    "Shape",
    "attend",
    "check_implementation",
    "choose",
    "chosen",
    "soft_cap",
]

# Each maps (q, k, v, mask, scale, softcap) to y, with the shapes and dtypes of `attend`.
IMPLEMENTATIONS: dict[str, Callable[..., jax.Array]] = {
    "xla": attend_plainly,
    "blocks": attend_in_blocks,
    "cudnn": kernels.cudnn,
    "tokamax": kernels.tokamax,
    "splash": kernels.splash,
}
AUTO = "auto"

# The most logits of one head and row that are held as a matrix; 448 pixels and more exceed it.
_LONG = 2**19


@dataclasses.dataclass(frozen=True)
class Shape:
    """Properties of an attention call that decide, with the device, its implementation."""

    queries: int
    keys: int
    head_dim: int
    dtype: str
    masked: bool
    softcap: bool


def attend(
    q: Float[jax.Array, "b t n h"],
    k: Float[jax.Array, "b s k h"],
    v: Float[jax.Array, "b s k h"],
    mask: Bool[jax.Array, "b t s"] | None = None,
    scale: float | None = None,
    softcap: float = 0.0,
    implementation: str = AUTO,
) -> Float[jax.Array, "b t n h"]:
    """Computes softmax attention, with logits and softmax in float32.

    Args:
      q: queries [B,T,N,H].
      k: keys [B,S,K,H] in q's dtype, with K dividing N (grouped-query attention).
      v: values [B,S,K,H].
      mask: bool [B,T,S], True where a query may attend; None lets every query attend to every key.
        The result of a query that may attend to nothing is finite but meaningless.
      scale: factor of the logits; None means H^-½.
      softcap: c > 0 bounds the scaled logits to c·tanh(logits/c) before the mask is applied.
      implementation: a key of `IMPLEMENTATIONS`, or `auto`, which lets `choose` decide.

    Returns:
      [B,T,N,H] in q's dtype.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    shape = Shape(q.shape[1], k.shape[1], q.shape[3], q.dtype.name, mask is not None, bool(softcap))
    implementation = chosen(implementation, shape)
    function = IMPLEMENTATIONS[implementation]
    if implementation not in kernels.NAMES:
        return function(q, k, v, mask, scale, softcap)

    # XLA cannot partition a kernel, so each device calls it for its own rows and heads.
    def local(q, k, v, *mask):
        return function(q, k, v, *(mask or (None,)), scale, softcap)

    # Where the mesh splits the heads of q but cannot split those of k, k is repeated to q's heads.
    if k.shape[2] > 1 and k.shape[2] % model_size():
        k, v = (jnp.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v))
    heads = ("batch", None, "heads", None)
    kv_heads = ("batch", None, "kv_heads", None)
    masks = () if mask is None else (mask,)
    axes = (heads, kv_heads, kv_heads, *[("batch", None, None)] * len(masks))
    return over_mesh(local, axes, heads)(q, k, v, *masks)


def chosen(implementation: str, shape: Shape) -> str:
    """Returns the implementation that a call uses under a config's `model.attention`.

    A single query reads its keys only once in any case, so it always uses the plain formula. An
    implementation that supports neither masks nor soft caps applies to the image tower only; the
    decoder then uses what `choose` picks.

    Args:
      implementation: a key of `IMPLEMENTATIONS`, or `auto`.
      shape: properties of the call.
    """
    unable = implementation in kernels.UNMASKED and (shape.masked or shape.softcap)
    if implementation == AUTO or shape.queries == 1 or unable:
        return choose(shape)
    return implementation


def choose(shape: Shape) -> str:
    """Returns the fastest implementation that fits, on the devices of the mesh in use.

    GPUs from Ampere on, in 16 bits, use cuDNN's attention where nothing is masked (the image
    tower), and for long sequences tokamax's Triton kernel, which takes masks, soft caps and heads
    of 256. TPUs use the splash kernel for long sequences without a mask. All else uses the plain
    formula for short sequences, and the same formula in blocks of queries for long ones, which
    never holds a matrix of all logits.

    For the decoder's 384 tokens of a 224-pixel example, the Triton kernel took 1.8 ms per layer at
    batch 32 on an H200, forward and backward: three times what the data sheet gives for the plain
    formula's products and memory traffic.
    """
    long = shape.queries * shape.keys > _LONG
    plain = "blocks" if long else "xla"
    if shape.queries == 1:
        return "xla"
    where = device()
    half = shape.dtype in ("bfloat16", "float16")
    free = not (shape.masked or shape.softcap)
    if where.platform == "gpu" and half and kernels.capability(where) >= 8.0:
        if free and kernels.cudnn_takes(shape.head_dim):
            return "cudnn"
        return "tokamax" if long and kernels.has_tokamax() else plain
    if where.platform == "tpu" and half and free and long and kernels.splash_takes(shape.keys):
        return "splash"
    return plain


def check_implementation(name: str) -> str:
    """Returns `name` if it is an implementation that this installation has, or `auto`.

    Raises:
      UserError: the name is unknown, or the library that it needs is not installed.
    """
    if name not in (AUTO, *IMPLEMENTATIONS):
        raise UserError(
            f"model.attention {name!r} is unknown; choose from {[AUTO, *IMPLEMENTATIONS]}."
        )
    if name == "tokamax" and not kernels.has_tokamax():
        raise UserError(
            "model.attention 'tokamax' needs the package tokamax (Python 3.12, jax 0.11.1 or "
            "newer), which is not installed."
        )
    return name
