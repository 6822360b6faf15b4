"""Softmax attention by its formula, which holds a matrix of all logits.

Einsum letters: B rows, T queries, S keys, K key/value heads, G queries per key head, H head size.
"""

import functools

import jax
import jax.numpy as jnp

# The most rows of one token each for which a GPU computes attention by sums of products.
_FEW = 8


def attend_plainly(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None,
    scale: float,
    softcap: float,
) -> jax.Array:
    """Computes `pgjax.models.attention.attend` while holding float32 logits [B,N,T,S]."""
    if q.shape[1] == 1 and q.shape[0] <= _FEW:
        return jax.lax.platform_dependent(
            q, k, v, mask,
            cuda=functools.partial(_token_by_sums, scale=scale, softcap=softcap),
            default=functools.partial(_by_products, scale=scale, softcap=softcap),
        )  # fmt: skip
    return _by_products(q, k, v, mask, scale, softcap)


def _by_products(q, k, v, mask, scale, softcap):
    b, t, n, h = q.shape
    if t == 1 and k.shape[2] == 1:
        # With an axis of heads between S and H, XLA keeps a second cache in another order.
        k, v = k[:, :, 0], v[:, :, 0]
        logits = jnp.einsum("BTGH,BSH->BGTS", q, k, preferred_element_type=jnp.float32) * scale
        logits = _masked(soft_cap(logits, softcap), None if mask is None else mask[:, None])
        weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
        return jnp.einsum("BGTS,BSH->BTGH", weights, v)
    q = q.reshape(b, t, k.shape[2], -1, h)
    weights = jax.nn.softmax(logits_of(q, k, mask, scale, softcap), axis=-1).astype(v.dtype)
    return jnp.einsum("BKTGS,BSKH->BTKGH", weights, v).reshape(b, t, n, h)


def _token_by_sums(q, k, v, mask, scale, softcap):
    """Attends from one query per row by sums of products over the keys in the cache's own layout.

    A library's matrix product of so few rows takes scratch memory, and may want the cache in
    another layout.
    """
    b, _, n, h = q.shape
    wide = q.reshape(b, 1, k.shape[2], -1, h).astype(jnp.float32)
    logits = jnp.sum(wide * k[:, :, :, None].astype(jnp.float32), axis=-1) * scale  # [B,S,K,G]
    logits = _masked(soft_cap(logits, softcap), None if mask is None else mask[:, 0, :, None, None])
    weights = jax.nn.softmax(logits, axis=1).astype(v.dtype).astype(jnp.float32)
    y = jnp.sum(weights[..., None] * v[:, :, :, None].astype(jnp.float32), axis=1)
    return y.astype(v.dtype).reshape(b, 1, n, h)


def logits_of(
    q: jax.Array, k: jax.Array, mask: jax.Array | None, scale: float, softcap: float
) -> jax.Array:
    """Computes the scaled, capped and masked attention logits.

    Args:
      q: [B,T,K,G,H].
      k: [B,S,K,H].
      mask: bool [B,T,S], True where a query may attend, or None.
      scale: factor of the logits.
      softcap: c > 0 bounds the scaled logits to c·tanh(logits/c); 0 leaves them as they are.

    Returns:
      float32 [B,K,T,G,S], the lowest float32 where the mask is False.
    """
    logits = jnp.einsum("BTKGH,BSKH->BKTGS", q, k, preferred_element_type=jnp.float32) * scale
    return _masked(soft_cap(logits, softcap), None if mask is None else mask[:, None, :, None])


def _masked(logits, mask):
    return logits if mask is None else jnp.where(mask, logits, jnp.finfo(jnp.float32).min)


def soft_cap(x: jax.Array, cap: float) -> jax.Array:
    """Bounds x to cap·tanh(x/cap); a cap of 0 returns x unchanged."""
    return cap * jnp.tanh(x / cap) if cap else x
