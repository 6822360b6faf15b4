"""The attention that both towers call.

Einsum letters: B rows, T queries, S keys, K key/value heads, G queries per key head, H head size.
"""

import jax
import jax.numpy as jnp


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None = None,
    scale: float | None = None,
    softcap: float = 0.0,
) -> jax.Array:
    """Softmax attention in float32, through the device's fused kernel where it has one.

    Args:
      q: [B,T,N,H].
      k: [B,S,K,H] in q's dtype, with K dividing N (grouped queries).
      v: [B,S,K,H].
      mask: bool [B,T,S], True where a query may attend; None for everywhere.
      scale: of the logits; None for H^-½.
      softcap: c > 0 bounds the scaled logits to c·tanh(logits/c), before the mask.

    Returns:
      [B,T,N,H] in q's dtype.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    # The library has no soft cap, and its path does not compile for float16 on CPU (a T4 fuses
    # none anyway). For the one query of a decoded token it would repeat the keys for each head.
    if softcap or q.dtype == jnp.float16 or q.shape[1] == 1:
        return _attend_unfused(q, k, v, mask, scale, softcap)
    # The library promotes to float32 implicitly inside, which strict numerics forbid.
    with jax.numpy_dtype_promotion("standard"):
        mask = None if mask is None else mask[:, None]
        return jax.nn.dot_product_attention(q, k, v, mask=mask, scale=scale)


def soft_cap(x: jax.Array, cap: float) -> jax.Array:
    """c·tanh(x/c), or x where c is 0."""
    return cap * jnp.tanh(x / cap) if cap else x


def _attend_unfused(q, k, v, mask, scale, softcap):
    b, t, n, h = q.shape
    if t == 1 and k.shape[2] == 1:
        return _attend_token(q, k[:, :, 0], v[:, :, 0], mask, scale, softcap)
    q = q.reshape(b, t, k.shape[2], -1, h)
    logits = jnp.einsum("BTKGH,BSKH->BKGTS", q, k, preferred_element_type=jnp.float32) * scale
    weights = _weights(logits, mask, softcap).astype(v.dtype)
    return jnp.einsum("BKGTS,BSKH->BTKGH", weights, v).reshape(b, t, n, h)


def _attend_token(q, k, v, mask, scale, softcap):
    """One query, and keys of one head [B,S,H], which a GPU then reads as the cache has them.

    With an axis of heads between S and H, XLA keeps a second cache in another order.
    """
    logits = jnp.einsum("BTGH,BSH->BGTS", q, k, preferred_element_type=jnp.float32) * scale
    weights = _weights(logits[:, None], mask, softcap)[:, 0].astype(v.dtype)
    return jnp.einsum("BGTS,BSH->BTGH", weights, v)


def _weights(logits, mask, softcap):
    """[B,K,G,T,S] and [B,T,S] or None -> [B,K,G,T,S]."""
    logits = soft_cap(logits, softcap)
    if mask is not None:
        logits = jnp.where(mask[:, None, None], logits, jnp.finfo(jnp.float32).min)
    return jax.nn.softmax(logits, axis=-1)
