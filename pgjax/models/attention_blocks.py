"""Attention one block of queries at a time, so that no matrix of all logits ever exists.

This is the idea of FlashAttention (Dao et al., arXiv:2205.14135) in plain JAX, for every device,
dtype and length. The forward pass keeps the logarithm of each query's softmax denominator, from
which the backward pass recomputes the logits of a block. A block sees all keys at once, so it needs
no running maximum.

Einsum letters: B rows, T queries of a block, S keys, K key/value heads, G queries per key head,
H head size.
"""

import jax
import jax.numpy as jnp

from pgjax.models.attention_plain import logits_of

_BLOCK_BYTES = 2**26  # size of a block's float32 logits over all rows and heads


def attend_in_blocks(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None,
    scale: float,
    softcap: float,
) -> jax.Array:
    """Computes `pgjax.models.attention.attend` while holding the logits of one block of queries."""
    return _attend(q, k, v, mask, scale, softcap)


def _primal(q, k, v, mask, scale, softcap):
    return _forward(q, k, v, mask, scale, softcap)[0]


def _forward(q, k, v, mask, scale, softcap):
    blocks = _Blocks(q, k, mask)

    def one(args):
        q, mask = args
        logits = logits_of(q, k, mask, scale, softcap)
        lse = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        weights = jnp.exp(logits - lse).astype(v.dtype)
        return jnp.einsum("BKTGS,BSKH->BTKGH", weights, v), lse

    y, lse = jax.lax.map(one, (blocks.split(q), blocks.mask))
    return blocks.join(y), lse


def _fwd(q, k, v, mask, scale, softcap):
    y, lse = _forward(q, k, v, mask, scale, softcap)
    return y, (q, k, v, mask, y, lse)


def _bwd(scale, softcap, residuals, g):
    q, k, v, mask, y, lse = residuals
    blocks = _Blocks(q, k, mask)

    def one(sums, args):
        dk, dv = sums
        q, mask, y, lse, g = args
        logits = logits_of(q, k, mask, scale, softcap)
        p = jnp.exp(logits - lse)
        dv += jnp.einsum(
            "BKTGS,BTKGH->BSKH", p.astype(g.dtype), g, preferred_element_type=jnp.float32
        )
        dp = jnp.einsum("BTKGH,BSKH->BKTGS", g, v, preferred_element_type=jnp.float32)
        # The softmax has the gradient p·(dp - Σ p·dp), in which Σ p·dp = g·y.
        both = jnp.einsum("BTKGH,BTKGH->BKTG", g.astype(jnp.float32), y.astype(jnp.float32))
        ds = p * (dp - both[..., None])
        if softcap:  # d c·tanh(x/c) / dx = 1 - tanh²(x/c); masked logits have p = 0
            ds *= 1.0 - jnp.square(jnp.where(p > 0, logits, 0.0) / softcap)
        ds = (ds * scale).astype(q.dtype)
        dq = jnp.einsum("BKTGS,BSKH->BTKGH", ds, k)
        dk += jnp.einsum("BKTGS,BTKGH->BSKH", ds, q, preferred_element_type=jnp.float32)
        return (dk, dv), dq

    zeros = tuple(jnp.zeros(x.shape, jnp.float32) for x in (k, v))
    (dk, dv), dq = jax.lax.scan(
        one, zeros, (blocks.split(q), blocks.mask, blocks.split(y), lse, blocks.split(g))
    )
    return blocks.join(dq), dk.astype(k.dtype), dv.astype(v.dtype), None


_attend = jax.custom_vjp(_primal, nondiff_argnums=(4, 5))
_attend.defvjp(_fwd, _bwd)


class _Blocks:
    """Cuts queries into equal blocks; the last one is padded with queries that see every key."""

    def __init__(self, q: jax.Array, k: jax.Array, mask: jax.Array | None):
        self.shape, self.groups = q.shape, (k.shape[2], q.shape[2] // k.shape[2])
        b, t, n, _ = q.shape
        fitting = max(1, _BLOCK_BYTES // (4 * b * n * k.shape[1]))
        self.count = -(-t // min(t, max(64, 1 << (fitting.bit_length() - 1))))
        self.size = -(-t // self.count)
        self.pad = self.count * self.size - t
        self.mask = None
        if mask is not None:
            mask = jnp.pad(mask, ((0, 0), (0, self.pad), (0, 0)), constant_values=True)
            self.mask = jnp.moveaxis(mask.reshape(b, self.count, self.size, -1), 1, 0)

    def split(self, x: jax.Array) -> jax.Array:
        """Pads and cuts [B,T,N,H] into [blocks,B,T/blocks,K,G,H]."""
        b, _, _, h = self.shape
        x = jnp.pad(x, ((0, 0), (0, self.pad), (0, 0), (0, 0)))
        return jnp.moveaxis(x.reshape(b, self.count, self.size, *self.groups, h), 1, 0)

    def join(self, x: jax.Array) -> jax.Array:
        """Inverts `split`: [blocks,B,T/blocks,K,G,H] -> [B,T,N,H]."""
        b, t, n, h = self.shape
        return jnp.moveaxis(x, 0, 1).reshape(b, -1, n, h)[:, :t]
