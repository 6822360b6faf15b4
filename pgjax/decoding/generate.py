"""Generation as one traced loop: no Python per token, no host in between."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax.decoding.samplers import Sampler

Cache = Any


class Generated(NamedTuple):
    """What was generated; both are 0 after a row's eos and in rows that do not count."""

    tokens: jax.Array  # int32 [B,T], eos included
    logprobs: jax.Array  # float32 [B,T], of the tokens under the unscaled distribution


def generate(
    prefill: Callable[[], tuple[jax.Array, Cache]],
    extend: Callable[[jax.Array, Cache], tuple[jax.Array, Cache]],
    *,
    sampler: Sampler,
    key: jax.Array,
    max_new_tokens: int,
    eos_id: int,
    row_valid: jax.Array,
) -> Generated:
    """Generates until every row has ended or is full; to be called under `jax.jit`.

    Args:
      prefill: () -> (float32 logits [B,V], cache with room for `max_new_tokens`).
      extend: (int32 [B], cache) -> (float32 logits [B,V], cache).
      sampler: (key, logits) -> int32 [B].
      key: random key; every position draws from its own fold.
      max_new_tokens: T, eos included.
      eos_id: ends a row.
      row_valid: bool [B]; the loop does not wait for the others, and they stay blank.
    """
    logits, cache = prefill()
    b = logits.shape[0]

    def choose(t, logits, ended, tokens, logprobs):
        token = sampler(jax.random.fold_in(key, t), logits)
        logprob = jnp.take_along_axis(jax.nn.log_softmax(logits), token[:, None], axis=1)[:, 0]
        token = jnp.where(ended, 0, token)
        tokens = jax.lax.dynamic_update_slice_in_dim(tokens, token[:, None], t, axis=1)
        logprob = jnp.where(ended, 0.0, logprob)[:, None]
        logprobs = jax.lax.dynamic_update_slice_in_dim(logprobs, logprob, t, axis=1)
        return token, ended | (token == eos_id), tokens, logprobs

    def body(state):
        t, token, cache, ended, tokens, logprobs = state
        logits, cache = extend(token, cache)
        token, ended, tokens, logprobs = choose(t, logits, ended, tokens, logprobs)
        return t + 1, token, cache, ended, tokens, logprobs

    def unfinished(state):
        return (state[0] < max_new_tokens) & ~state[3].all()

    shape = (b, max_new_tokens)
    token, ended, tokens, logprobs = choose(
        jnp.int32(0), logits, ~row_valid, jnp.zeros(shape, jnp.int32), jnp.zeros(shape)
    )
    state = (jnp.int32(1), token, cache, ended, tokens, logprobs)
    *_, tokens, logprobs = jax.lax.while_loop(unfinished, body, state)
    return Generated(tokens, logprobs)
