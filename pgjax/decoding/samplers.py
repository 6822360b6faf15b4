"""How the next token of one row is chosen from its logits."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgjax.errors import UserError

_BLOCK = 128  # logits; divides the vocabularies of Gemma

Sampler = Callable[[jax.Array, jax.Array], jax.Array]  # (key, float32 [V]) -> int32


def greedy(key: jax.Array, logits: jax.Array) -> jax.Array:
    """The most probable token; the key is not used."""
    del key
    if logits.size % _BLOCK:
        return jnp.argmax(logits).astype(jnp.int32)
    # Maxima are vectorized, and an argmax is not: the best block first, then the best in it.
    blocks = logits.reshape(-1, _BLOCK)
    i = jnp.argmax(blocks.max(axis=1)).astype(jnp.int32)
    return i * _BLOCK + jnp.argmax(blocks[i]).astype(jnp.int32)


def temperature(value: float = 1.0) -> Sampler:
    """A draw from softmax(logits / value)."""
    _check(value > 0, f"temperature({value}): the temperature must be positive")

    def sample(key: jax.Array, logits: jax.Array) -> jax.Array:
        return jax.random.categorical(key, logits / value).astype(jnp.int32)

    return sample


def top_k(k: float, value: float = 1.0) -> Sampler:
    """A draw among the k most probable tokens, at a temperature."""
    _check(k >= 1 and k == int(k), f"top_k({k}, {value}): k must be a whole number from 1")
    _check(value > 0, f"top_k({k}, {value}): the temperature must be positive")

    def sample(key: jax.Array, logits: jax.Array) -> jax.Array:
        best, ids = jax.lax.top_k(logits, min(int(k), logits.shape[-1]))
        return ids[jax.random.categorical(key, best / value)].astype(jnp.int32)

    return sample


def nucleus(p: float, value: float = 1.0) -> Sampler:
    """A draw among the fewest tokens that hold a share p of the probability (arXiv:1904.09751).

    The temperature comes first, then the choice of these tokens.
    """
    _check(0 < p <= 1, f"nucleus({p}, {value}): p must be in 0..1, not 0")
    _check(value > 0, f"nucleus({p}, {value}): the temperature must be positive")

    def sample(key: jax.Array, logits: jax.Array) -> jax.Array:
        ids = jnp.argsort(-logits)
        ordered = logits[ids] / value
        probs = jax.nn.softmax(ordered)
        before = jnp.cumsum(probs) - probs
        choice = jax.random.categorical(key, jnp.where(before < p, ordered, -jnp.inf))
        return ids[choice].astype(jnp.int32)

    return sample


def _check(ok: bool, message: str) -> None:
    if not ok:  # also for nan
        raise UserError(f"sampler {message}.")
