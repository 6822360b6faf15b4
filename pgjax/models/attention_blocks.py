"""Attention a block of queries at a time, so that no matrix of all logits ever exists.

What FlashAttention does (Dao et al., arXiv:2205.14135) in plain JAX, for every device, dtype and
length: the forward pass keeps the log of each query's softmax denominator, from which the backward
pass makes the logits of a block again. A block sees all keys at once and needs no running maximum.

Einsum letters: B rows, T queries of a block, S keys, K key/value heads, G queries per key head,
H head size.
"""

import functools

import jax
import jax.numpy as jnp

from pgjax.models.attention_plain import logits_of

_BLOCK_BYTES = 2**26  # of the float32 logits of a block, all rows and heads


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def attend_in_blocks(q, k, v, mask, scale: float, softcap: float) -> jax.Array:
    """See `pgjax.models.attention.attend`."""
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
        # Of the softmax: p·(dp - Σ p·dp), and Σ p·dp = g·y.
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


attend_in_blocks.defvjp(_fwd, _bwd)


class _Blocks:
    """How queries are cut; the last block is filled up with queries that see everything."""

    def __init__(self, q, k, mask):
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

    def split(self, x):
        """[B,T,N,H] -> [blocks,B,T,K,G,H]."""
        b, _, _, h = self.shape
        x = jnp.pad(x, ((0, 0), (0, self.pad), (0, 0), (0, 0)))
        return jnp.moveaxis(x.reshape(b, self.count, self.size, *self.groups, h), 1, 0)

    def join(self, x):
        """[blocks,B,T,K,G,H] -> [B,T,N,H]."""
        b, t, n, h = self.shape
        return jnp.moveaxis(x, 0, 1).reshape(b, -1, n, h)[:, :t]
