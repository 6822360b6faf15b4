"""Attention as the formula says it, with a matrix of all logits.

Einsum letters: B rows, T queries, S keys, K key/value heads, G queries per key head, H head size.
"""

import jax
import jax.numpy as jnp


def attend_plainly(q, k, v, mask, scale: float, softcap: float) -> jax.Array:
    """See `pgjax.models.attention.attend`; keeps float32 logits [B,N,T,S]."""
    b, t, n, h = q.shape
    q = q.reshape(b, t, k.shape[2], -1, h)
    weights = jax.nn.softmax(logits_of(q, k, mask, scale, softcap), axis=-1).astype(v.dtype)
    return jnp.einsum("BKGTS,BSKH->BTKGH", weights, v).reshape(b, t, n, h)


def logits_of(q, k, mask, scale: float, softcap: float) -> jax.Array:
    """[B,T,K,G,H], [B,S,K,H] -> float32 [B,K,G,T,S], the lowest number where masked."""
    logits = jnp.einsum("BTKGH,BSKH->BKGTS", q, k, preferred_element_type=jnp.float32) * scale
    logits = soft_cap(logits, softcap)
    if mask is None:
        return logits
    return jnp.where(mask[:, None, None], logits, jnp.finfo(jnp.float32).min)


def soft_cap(x: jax.Array, cap: float) -> jax.Array:
    """c·tanh(x/c), or x where c is 0."""
    return cap * jnp.tanh(x / cap) if cap else x
