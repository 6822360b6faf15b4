"""Fused attention kernels of libraries: cuDNN, tokamax and splash.

Each function takes (q [B,T,N,H], k [B,S,K,H], v [B,S,K,H], mask bool [B,T,S] or None, scale,
softcap), returns [B,T,N,H] in q's dtype, and runs on one device.
"""

import functools
import importlib
from typing import Any

import jax
import jax.numpy as jnp

from pgjax.sharding import JaxDevice

UNMASKED = ("cudnn", "splash")  # these support neither a mask nor a soft cap
NAMES = (*UNMASKED, "tokamax")
_SPLASH_BLOCK = 512  # queries and keys of a block


def capability(device: JaxDevice) -> float:
    """Returns the compute capability of an NVIDIA GPU, such as 8.0; 0 for other devices."""
    return float(getattr(device, "compute_capability", None) or 0.0)


def cudnn_takes(head_dim: int) -> bool:
    """Says whether cuDNN has forward and backward passes for a head size on Ampere and later."""
    return head_dim <= 128 and head_dim % 8 == 0


def splash_takes(keys: int) -> bool:
    """Says whether the splash kernel can cut this many keys into blocks."""
    return keys % min(_SPLASH_BLOCK, keys) == 0 and keys % 128 == 0


@functools.cache
def has_tokamax() -> bool:
    """Says whether tokamax can be imported; the first call takes a second or two."""
    try:
        importlib.import_module("tokamax")
    except ImportError:
        return False
    return True


def cudnn(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None,
    scale: float,
    softcap: float,
) -> jax.Array:
    """Attends by cuDNN through `jax.nn.dot_product_attention`.

    Raises:
      ValueError: a mask is given, which would become a matrix of floats, or a soft cap, which
        cuDNN does not offer.
    """
    if mask is not None or softcap:
        raise ValueError("attention by cuDNN supports neither a mask nor a soft cap.")
    return jax.nn.dot_product_attention(q, k, v, scale=scale, implementation="cudnn")


def tokamax(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None,
    scale: float,
    softcap: float,
) -> jax.Array:
    """Attends by tokamax's Triton kernel, which skips no masked key but stores no logits."""
    import tokamax  # pyright: ignore[reportMissingImports]

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return tokamax.dot_product_attention(
            q,
            k,
            v,
            mask=None if mask is None else mask[:, None],
            scale=scale,
            logits_soft_cap=softcap or None,
            implementation="triton",
        )


def splash(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None,
    scale: float,
    softcap: float,
    interpret: bool = False,
) -> jax.Array:
    """Attends by JAX's own TPU kernel, with heads padded to the 128 lanes of a register.

    Args:
      q: [B,T,N,H].
      k: [B,S,K,H].
      v: [B,S,K,H].
      mask: must be None.
      scale: factor of the logits.
      softcap: c > 0 bounds the scaled logits to c·tanh(logits/c).
      interpret: emulate the kernel, for tests without a TPU.

    Raises:
      ValueError: a mask is given, or S cannot be cut into blocks.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel,
        splash_attention_mask,
    )

    if mask is not None:
        raise ValueError("attention by splash kernels does not support a mask.")
    (_, t, n, h), s = q.shape, k.shape[1]
    if not splash_takes(s):
        raise ValueError(
            f"splash attention got {s} keys, expected a multiple of {_SPLASH_BLOCK}, or of 128 "
            "where there are fewer."
        )
    block, columns = min(_SPLASH_BLOCK, s), s
    rows = -(-t // block) * block

    def prepared(x, length):
        fill = ((0, 0), (0, length - x.shape[1]), (0, 0), (0, -h % 128))
        return jnp.swapaxes(jnp.pad(x, fill), 1, 2)

    sizes = splash_attention_kernel.BlockSizes(
        block_q=block,
        block_kv=block,
        block_kv_compute=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_kv_dkv_compute=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    full = splash_attention_mask.MultiHeadMask(
        [splash_attention_mask.FullMask((rows, columns)) for _ in range(n)]
    )
    kernel = splash_attention_kernel.make_splash_mha(
        full,
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        attn_logits_soft_cap=softcap or None,
        interpret=interpret,
    )
    k, v = (jnp.repeat(x, n // x.shape[2], axis=2) for x in (k, v))
    scaled = (q.astype(jnp.float32) * scale).astype(q.dtype)
    y: Any = jax.vmap(kernel)(prepared(scaled, rows), prepared(k, columns), prepared(v, columns))
    return jnp.swapaxes(y, 1, 2)[:, :t, :, :h].astype(q.dtype)
