"""Fused attention of libraries: cuDNN, tokamax and splash.

Each takes (q [B,T,N,H], k [B,S,K,H], v [B,S,K,H], mask bool [B,T,S] or None, scale, softcap) and
returns [B,T,N,H], on one device.
"""

import functools
import importlib

import jax
import jax.numpy as jnp

UNMASKED = ("cudnn", "splash")  # which take neither a mask nor a soft cap
NAMES = (*UNMASKED, "tokamax")
_SPLASH_BLOCK = 512  # queries and keys


def capability(device: jax.Device) -> float:
    """Compute capability of an NVIDIA GPU, such as 8.0; 0 for other devices."""
    return float(getattr(device, "compute_capability", None) or 0.0)


def cudnn_takes(head_dim: int) -> bool:
    """Whether cuDNN has a forward and a backward pass for this head size from Ampere on."""
    return head_dim <= 128 and head_dim % 8 == 0


def splash_takes(keys: int) -> bool:
    """Whether so many keys can be cut into blocks."""
    return keys % min(_SPLASH_BLOCK, keys) == 0 and keys % 128 == 0


@functools.cache
def has_tokamax() -> bool:
    """Whether tokamax can be imported, which takes it a second or two."""
    try:
        importlib.import_module("tokamax")
    except ImportError:
        return False
    return True


def cudnn(q, k, v, mask, scale: float, softcap: float) -> jax.Array:
    """Through `jax.nn`. A mask would become a matrix of floats, and a soft cap is not offered."""
    if mask is not None or softcap:
        raise ValueError("attention by cuDNN is used without a mask and without a soft cap.")
    return jax.nn.dot_product_attention(q, k, v, scale=scale, implementation="cudnn")


def tokamax(q, k, v, mask, scale: float, softcap: float) -> jax.Array:
    """Its Triton kernel. The mask goes in as it is: no key is skipped, but no logit is stored."""
    import tokamax

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


def splash(q, k, v, mask, scale: float, softcap: float, interpret: bool = False) -> jax.Array:
    """JAX's own kernel for TPUs; heads are filled up to the 128 lanes of its registers."""
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel,
        splash_attention_mask,
    )

    if mask is not None:
        raise ValueError("attention by splash kernels is used without a mask.")
    (_, t, n, h), s = q.shape, k.shape[1]
    if not splash_takes(s):
        raise ValueError(f"splash attention takes a multiple of {_SPLASH_BLOCK} keys, and got {s}.")
    block, columns = min(_SPLASH_BLOCK, s), s
    rows = -(-t // block) * block

    def prepared(x, length):
        fill = ((0, 0), (0, length - x.shape[1]), (0, 0), (0, -h % 128))
        return jnp.swapaxes(jnp.pad(x, fill), 1, 2)

    parts = ("q", "q_dkv", "q_dq", "kv", "kv_compute", "kv_dkv", "kv_dkv_compute", "kv_dq")
    sizes = splash_attention_kernel.BlockSizes(**{f"block_{part}": block for part in parts})
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
    y = jax.vmap(kernel)(prepared(scaled, rows), prepared(k, columns), prepared(v, columns))
    return jnp.swapaxes(y, 1, 2)[:, :t, :, :h].astype(q.dtype)
