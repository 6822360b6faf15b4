"""Generation as one traced loop, without Python or the host between two tokens.

A model is given by two functions, `prefill() -> (float32 logits [B,V], cache)` and
`extend(tokens int32 [B], cache) -> (float32 logits [B,V], cache)`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float32, Int32, Key

from pgjax.decoding.box_lists import BoxList
from pgjax.decoding.samplers import Sampler
from pgjax.sharding import by_rows

Cache = Any
Prefill = Callable[[], tuple[Float32[jax.Array, "b v"], Cache]]
Extend = Callable[[Int32[jax.Array, " b"], Cache], tuple[Float32[jax.Array, "b v"], Cache]]


class Rules(NamedTuple):
    """Conditions that every decoder obeys.

    Attributes:
      keys: random keys [B]; the draws of a row depend on its own key only.
      limit: int32 scalar, the most tokens to generate.
      row_valid: bool [B]; rows that are False stay blank, and generation does not wait for them.
      allowed: bool [V], tokens that may be chosen.
      stops: bool [V], tokens that end a row, eos among them.
      boxes: how an answer is written that lists a given number of boxes; None for any answer.
    """

    keys: Key[jax.Array, " b"]
    limit: Int32[jax.Array, ""]
    row_valid: Bool[jax.Array, " b"]
    allowed: Bool[jax.Array, " v"]
    stops: Bool[jax.Array, " v"]
    boxes: BoxList | None = None

    def may_follow(
        self, tokens: Int32[jax.Array, "b t"], length: Int32[jax.Array, ""]
    ) -> Bool[jax.Array, "#b v"]:
        """Which tokens may come after the first `length` tokens of each row."""
        allowed = self.allowed[None]
        return allowed if self.boxes is None else allowed & self.boxes.allowed(tokens, length)


def plain_rules(
    rows: int, vocab_size: int, *, limit: int, eos_id: int, key: Key[jax.Array, ""] | None = None
) -> Rules:
    """Returns rules by which every row counts, every token may be chosen, and only eos ends a row.

    Args:
      rows: B.
      vocab_size: V.
      limit: the most tokens to generate.
      eos_id: the token that ends a row.
      key: the random key of all rows; None where nothing is drawn.
    """
    keys = jax.random.split(jax.random.key(0) if key is None else key, rows)
    stops = jnp.arange(vocab_size) == eos_id
    return Rules(keys, jnp.int32(limit), jnp.ones(rows, bool), jnp.ones(vocab_size, bool), stops)


class Generated(NamedTuple):
    """Generated tokens, up to and including the token that ends a row.

    Attributes:
      tokens: int32 [B,T], 0 after a row's end and in rows that are not valid.
      logprobs: float32 [B,T], log-probabilities of the tokens under the model's own distribution,
        0 where `tokens` are blank. Beam search puts an axis of beams after B.
    """

    tokens: Int32[jax.Array, "*b t"]
    logprobs: Float32[jax.Array, "*b t"]


class State(NamedTuple):
    """The state of generation between two tokens.

    Attributes:
      t: int32 scalar, number of tokens so far.
      token: int32 [B], the last token of each row.
      cache: from the model.
      ended: bool [B], rows that have ended or are not valid.
      out: the tokens so far.
    """

    t: Int32[jax.Array, ""]
    token: Int32[jax.Array, " b"]
    cache: Cache
    ended: Bool[jax.Array, " b"]
    out: Generated


def generate(
    prefill: Prefill, extend: Extend, rules: Rules, *, sampler: Sampler, max_new_tokens: int
) -> Generated:
    """Generates until every row has ended or is full; to be called under `jax.jit`.

    Args:
      prefill: fills a cache with room for `max_new_tokens` tokens.
      extend: adds one token to the cache.
      rules: conditions such as the limit and the tokens that end a row.
      sampler: chooses the next token of one row.
      max_new_tokens: T, the size of the result, of which at most `rules.limit` tokens are used.
    """
    state = begin(prefill, rules, sampler=sampler, max_new_tokens=max_new_tokens)
    return advance(extend, rules, state, sampler=sampler, until=max_new_tokens).out


def begin(prefill: Prefill, rules: Rules, *, sampler: Sampler, max_new_tokens: int) -> State:
    """Runs the prompts, and returns the state after the first token.

    Args:
      prefill: fills a cache with room for `max_new_tokens` tokens.
      rules: conditions such as the tokens that end a row.
      sampler: chooses the next token of one row.
      max_new_tokens: T, the size of the result.
    """
    logits, cache = prefill()
    shape = (logits.shape[0], max_new_tokens)
    out = Generated(jnp.zeros(shape, jnp.int32), jnp.zeros(shape))
    return _choose(logits, cache, jnp.int32(0), ~rules.row_valid, out, rules, sampler)


def advance(
    extend: Extend, rules: Rules, state: State, *, sampler: Sampler, until: jax.Array | int
) -> State:
    """Continues until there are `until` or `rules.limit` tokens, or every row has ended.

    Args:
      extend: adds one token to the cache.
      rules: those that the state began with.
      state: from `begin` or `advance`.
      sampler: chooses the next token of one row.
      until: number of tokens, counted from the first one.
    """
    until = jnp.minimum(rules.limit, until)

    def body(s: State) -> State:
        logits, cache = extend(s.token, s.cache)
        return _choose(logits, cache, s.t, s.ended, s.out, rules, sampler)

    return jax.lax.while_loop(lambda s: (s.t < until) & ~s.ended.all(), body, state)


def _choose(logits, cache, t, ended, out: Generated, rules: Rules, sampler: Sampler) -> State:
    keys = jax.vmap(jax.random.fold_in, (0, None))(rules.keys, t)
    choose = by_rows(jax.vmap(sampler))
    token = choose(keys, jnp.where(rules.may_follow(out.tokens, t), logits, -jnp.inf))
    token = jnp.where(ended, 0, token)
    logprob = jnp.where(ended[:, None], 0.0, logprobs_of(logits, token[:, None]))
    out = Generated(
        jax.lax.dynamic_update_slice_in_dim(out.tokens, token[:, None], t, axis=1),
        jax.lax.dynamic_update_slice_in_dim(out.logprobs, logprob, t, axis=1),
    )
    return State(t + 1, token, cache, ended | rules.stops[token], out)


def logprobs_of(
    logits: Float32[jax.Array, "b v"], tokens: Int32[jax.Array, "b k"]
) -> Float32[jax.Array, "b k"]:
    """Log-probabilities of K tokens of each row under the model's own distribution."""
    chosen = jnp.take_along_axis(logits, tokens, axis=1)
    return chosen - jax.nn.logsumexp(logits, axis=1, keepdims=True)
