"""Generation as one traced loop: no Python per token, no host in between.

A model comes as two functions, `prefill() -> (float32 logits [B,V], cache)` and
`extend(int32 [B], cache) -> (float32 logits [B,V], cache)`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax.decoding.samplers import Sampler
from pgjax.sharding import by_rows

Cache = Any
Prefill = Callable[[], tuple[jax.Array, Cache]]
Extend = Callable[[jax.Array, Cache], tuple[jax.Array, Cache]]


class Rules(NamedTuple):
    """What is the same for every way of decoding.

    `keys` [B], a row's draws depend on its own only; `limit` int32, tokens to generate at most;
    `row_valid` bool [B], nobody waits for the other rows, and they stay blank; `allowed` bool
    [V], tokens that may be chosen; `stops` bool [V], tokens that end a row, eos among them.
    """

    keys: jax.Array
    limit: jax.Array
    row_valid: jax.Array
    allowed: jax.Array
    stops: jax.Array


def plain_rules(
    rows: int, vocab_size: int, *, limit: int, eos_id: int, key: jax.Array | None = None
) -> Rules:
    """Every row counts, every token may be chosen, and eos alone ends a row.

    Args:
      rows: B.
      vocab_size: V.
      limit: tokens to generate at most.
      eos_id: the token that ends a row.
      key: for all rows; None where nothing is drawn.
    """
    keys = jax.random.split(jax.random.key(0) if key is None else key, rows)
    stops = jnp.arange(vocab_size) == eos_id
    return Rules(keys, jnp.int32(limit), jnp.ones(rows, bool), jnp.ones(vocab_size, bool), stops)


class Generated(NamedTuple):
    """What was generated; both are 0 after a row's end and in rows that do not count."""

    tokens: jax.Array  # int32 [B,T], the token that ends a row included
    logprobs: jax.Array  # float32 [B,T], of the tokens under the model's own distribution


class State(NamedTuple):
    """Generation between two tokens."""

    t: jax.Array  # int32, tokens so far
    token: jax.Array  # int32 [B], the last one
    cache: Cache
    ended: jax.Array  # bool [B]
    out: Generated


def generate(
    prefill: Prefill, extend: Extend, rules: Rules, *, sampler: Sampler, max_new_tokens: int
) -> Generated:
    """Generates until every row has ended or is full; to be called under `jax.jit`.

    Args:
      prefill: fills a cache with room for `max_new_tokens`.
      extend: adds one token to it.
      rules: see `Rules`.
      sampler: chooses a token of one row.
      max_new_tokens: T, of which `rules.limit` are used.
    """
    state = begin(prefill, rules, sampler=sampler, max_new_tokens=max_new_tokens)
    return advance(extend, rules, state, sampler=sampler, until=max_new_tokens).out


def begin(prefill: Prefill, rules: Rules, *, sampler: Sampler, max_new_tokens: int) -> State:
    """The state after the first token."""
    logits, cache = prefill()
    shape = (logits.shape[0], max_new_tokens)
    out = Generated(jnp.zeros(shape, jnp.int32), jnp.zeros(shape))
    return _choose(logits, cache, jnp.int32(0), ~rules.row_valid, out, rules, sampler)


def advance(
    extend: Extend, rules: Rules, state: State, *, sampler: Sampler, until: jax.Array | int
) -> State:
    """Goes on until there are `until` tokens, or every row has ended."""
    until = jnp.minimum(rules.limit, until)

    def body(s: State) -> State:
        logits, cache = extend(s.token, s.cache)
        return _choose(logits, cache, s.t, s.ended, s.out, rules, sampler)

    return jax.lax.while_loop(lambda s: (s.t < until) & ~s.ended.all(), body, state)


def _choose(logits, cache, t, ended, out: Generated, rules: Rules, sampler: Sampler) -> State:
    keys = jax.vmap(jax.random.fold_in, (0, None))(rules.keys, t)
    choose = by_rows(jax.vmap(sampler))
    token = choose(keys, jnp.where(rules.allowed[None], logits, -jnp.inf))
    token = jnp.where(ended, 0, token)
    logprob = jnp.take_along_axis(logits, token[:, None], axis=1)
    logprob -= jax.nn.logsumexp(logits, axis=1, keepdims=True)
    logprob = jnp.where(ended[:, None], 0.0, logprob)
    out = Generated(
        jax.lax.dynamic_update_slice_in_dim(out.tokens, token[:, None], t, axis=1),
        jax.lax.dynamic_update_slice_in_dim(out.logprobs, logprob, t, axis=1),
    )
    return State(t + 1, token, cache, ended | rules.stops[token], out)
