"""The attention that both towers call, and the choice of what computes it.

Einsum letters: B rows, T queries, S keys, K key/value heads, G queries per key head, H head size.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

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

# (q, k, v, mask, scale, softcap) -> y, as `attend` has them.
IMPLEMENTATIONS: dict[str, Callable[..., jax.Array]] = {
    "xla": attend_plainly,
    "blocks": attend_in_blocks,
    "cudnn": kernels.cudnn,
    "tokamax": kernels.tokamax,
    "splash": kernels.splash,
}
AUTO = "auto"

# Logits of one head and row from which a matrix of them is not kept: those of 448 px and more.
_LONG = 2**19


@dataclasses.dataclass(frozen=True)
class Shape:
    """What the choice of an implementation depends on, besides the device."""

    queries: int
    keys: int
    head_dim: int
    dtype: str
    masked: bool
    softcap: bool


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None = None,
    scale: float | None = None,
    softcap: float = 0.0,
    implementation: str = AUTO,
) -> jax.Array:
    """Softmax attention with logits and softmax in float32.

    Args:
      q: [B,T,N,H].
      k: [B,S,K,H] in q's dtype, with K dividing N (grouped queries).
      v: [B,S,K,H].
      mask: bool [B,T,S], True where a query may attend; None for everywhere. A query that may
        attend to nothing has a finite result without meaning.
      scale: of the logits; None for H^-½.
      softcap: c > 0 bounds the scaled logits to c·tanh(logits/c), before the mask.
      implementation: a key of `IMPLEMENTATIONS`, or `auto` for what `choose` says.

    Returns:
      [B,T,N,H] in q's dtype.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    shape = Shape(q.shape[1], k.shape[1], q.shape[3], q.dtype.name, mask is not None, bool(softcap))
    implementation = chosen(implementation, shape)
    function = IMPLEMENTATIONS[implementation]
    if implementation not in kernels.NAMES:
        return function(q, k, v, mask, scale, softcap)

    # XLA cannot split what is inside a kernel: each device calls it for its own rows and heads.
    def local(q, k, v, *mask):
        return function(q, k, v, *(mask or (None,)), scale, softcap)

    if k.shape[2] > 1 and k.shape[2] % model_size():  # the heads of q are split, those of k are not
        k, v = (jnp.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v))
    heads = ("batch", None, "heads", None)
    kv_heads = ("batch", None, "kv_heads", None)
    masks = () if mask is None else (mask,)
    axes = (heads, kv_heads, kv_heads, *[("batch", None, None)] * len(masks))
    return over_mesh(local, axes, heads)(q, k, v, *masks)


def chosen(implementation: str, shape: Shape) -> str:
    """What computes attention under a config's `model.attention`.

    A single token reads its keys once in any case, so that it always takes the plain formula. What
    takes neither a mask nor a soft cap is for the image tower; the decoder then has what suits it.
    """
    unable = implementation in kernels.UNMASKED and (shape.masked or shape.softcap)
    if implementation == AUTO or shape.queries == 1 or unable:
        return choose(shape)
    return implementation


def choose(shape: Shape) -> str:
    """The fastest implementation that fits, on the devices of the mesh in use.

    cuDNN's attention where nothing is masked (the image tower), and for long sequences tokamax's
    Triton kernel, which takes masks, soft caps and heads of 256: both in 16 bits on GPUs from
    Ampere on. On TPUs the splash kernel for long sequences without a mask. Elsewhere the plain
    formula for short sequences, and for long ones the same in blocks of queries, so that no matrix
    of logits is kept.

    For the decoder's 384 tokens of a 224-pixel example, the Triton kernel took 1.8 ms a layer at
    batch 32 on an H200, forward and backward, three times what the plain formula's products and
    memory traffic take by the data sheet.
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
    """The name of an implementation, or `auto`.

    Raises:
      UserError: it is none, or its library is not installed.
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
