"""Samplers, which choose the next token of one row from its logits."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float32, Int32, Key

from pgjax.errors import UserError

_BLOCK = 128  # logits of a block; divides the vocabularies of Gemma

# (key, logits [V]) -> token
Sampler = Callable[[Key[jax.Array, ""], Float32[jax.Array, " v"]], Int32[jax.Array, ""]]


COLDEST = 1e-6  # below it, logits divided by it leave the range of float32


def greedy(key: Key[jax.Array, ""], logits: Float32[jax.Array, " v"]) -> Int32[jax.Array, ""]:
    """Chooses the most probable token.

    Args:
      key: not used.
      logits: float32 [V].

    Returns:
      int32 scalar.
    """
    del key
    if logits.size % _BLOCK:
        return jnp.argmax(logits).astype(jnp.int32)
    # Compilers vectorize maxima but not an argmax: find the best block, then the best token in it.
    blocks = logits.reshape(-1, _BLOCK)
    i = jnp.argmax(blocks.max(axis=1)).astype(jnp.int32)
    return i * _BLOCK + jnp.argmax(blocks[i]).astype(jnp.int32)


def draw(
    key: Key[jax.Array, ""], logits: Float32[jax.Array, " v"], value: jax.Array | float
) -> Int32[jax.Array, ""]:
    """Draws a token from softmax(logits / value); the temperature `value` is positive."""
    return jax.random.categorical(key, logits / value).astype(jnp.int32)


def draw_nucleus(
    key: Key[jax.Array, ""],
    logits: Float32[jax.Array, " v"],
    p: jax.Array | float,
    value: jax.Array | float,
) -> Int32[jax.Array, ""]:
    """Draws as `nucleus(p, value)` does."""
    ids = jnp.argsort(-logits)
    ordered = logits[ids] / value
    probs = jax.nn.softmax(ordered)
    before = jnp.cumsum(probs) - probs
    choice = jax.random.categorical(key, jnp.where(before < p, ordered, -jnp.inf))
    return ids[choice].astype(jnp.int32)


def temperature(value: float = 1.0) -> Sampler:
    """Returns a sampler that draws from softmax(logits / value).

    Raises:
      UserError: the temperature is not positive.
    """
    _check_temperature(value, f"temperature({value})")
    return functools.partial(draw, value=value)


def top_k(k: float, value: float = 1.0) -> Sampler:
    """Returns a sampler that draws among the k most probable tokens, at temperature `value`.

    Raises:
      UserError: k is not a whole number from 1, or the temperature is not positive.
    """
    _check(k >= 1 and k == int(k), f"top_k({k}, {value}): k must be a whole number from 1")
    _check_temperature(value, f"top_k({k}, {value})")

    def sample(key: jax.Array, logits: jax.Array) -> jax.Array:
        best, ids = jax.lax.top_k(logits, min(int(k), logits.shape[-1]))
        return ids[jax.random.categorical(key, best / value)].astype(jnp.int32)

    return sample


def nucleus(p: float, value: float = 1.0) -> Sampler:
    """Returns a sampler that draws among the fewest tokens with probability p (arXiv:1904.09751).

    Args:
      p: probability that these tokens have together at least.
      value: temperature, which is applied before these tokens are chosen.

    Raises:
      UserError: p is not above 0 and at most 1, or the temperature is not positive.
    """
    _check(0 < p <= 1, f"nucleus({p}, {value}): p must be above 0 and at most 1")
    _check_temperature(value, f"nucleus({p}, {value})")
    return functools.partial(draw_nucleus, p=p, value=value)


def _check(ok: bool, message: str) -> None:
    if not ok:  # comparisons with nan are False
        raise UserError(f"sampler {message}.")


def _check_temperature(value: float, sampler: str) -> None:
    _check(value >= COLDEST, f"{sampler}: the temperature must be positive, {COLDEST} at least")
