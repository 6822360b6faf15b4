"""Attention as the formula says it, with a matrix of all logits.

Einsum letters: B rows, T queries, S keys, K key/value heads, G queries per key head, H head size.
"""

import jax
import jax.numpy as jnp


def attend_plainly(q, k, v, mask, scale: float, softcap: float) -> jax.Array:
    """See `pgjax.models.attention.attend`; keeps float32 logits [B,N,T,S]."""
    b, t, n, h = q.shape
    if t == 1 and k.shape[2] == 1:
        return _attend_token(q, k[:, :, 0], v[:, :, 0], mask, scale, softcap)
    q = q.reshape(b, t, k.shape[2], -1, h)
    weights = jax.nn.softmax(logits_of(q, k, mask, scale, softcap), axis=-1).astype(v.dtype)
    return jnp.einsum("BKGTS,BSKH->BTKGH", weights, v).reshape(b, t, n, h)


def _attend_token(q, k, v, mask, scale, softcap):
    """One query, and keys of one head [B,S,H], which a GPU then reads as the cache has them.

    With an axis of heads between S and H, XLA keeps a second cache in another order.
    """
    logits = jnp.einsum("BTGH,BSH->BGTS", q, k, preferred_element_type=jnp.float32) * scale
    logits = _masked(soft_cap(logits, softcap), None if mask is None else mask[:, None])
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("BGTS,BSH->BTGH", weights, v)


def logits_of(q, k, mask, scale: float, softcap: float) -> jax.Array:
    """[B,T,K,G,H], [B,S,K,H] -> float32 [B,K,G,T,S], the lowest number where masked."""
    logits = jnp.einsum("BTKGH,BSKH->BKGTS", q, k, preferred_element_type=jnp.float32) * scale
    return _masked(soft_cap(logits, softcap), None if mask is None else mask[:, None, None])


def _masked(logits, mask):
    return logits if mask is None else jnp.where(mask, logits, jnp.finfo(jnp.float32).min)


def soft_cap(x: jax.Array, cap: float) -> jax.Array:
    """c·tanh(x/c), or x where c is 0."""
    return cap * jnp.tanh(x / cap) if cap else x
