"""Generation for a batch whose rows begin and end at different times.

Each row has its own length, limit, random key and way of choosing. The loop over tokens
returns after a few of them, so that rows can be exchanged for others in between.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float32, Int32

from pgjax.decoding.generate import Cache, Extend, logprobs_of
from pgjax.decoding.samplers import COLDEST, draw, draw_nucleus, greedy

MOST_TOPS = 20  # of the most probable tokens at a place


class Rows(NamedTuple):
    """How far each row is, and how its tokens are chosen.

    Attributes:
      token: int32 [B], the last token.
      length: int32 [B], tokens so far.
      limit: int32 [B], the most tokens; a row that has as many is not continued.
      seed: int32 [B].
      place: int32 [B]; a row draws with the key of (seed, place), whatever is beside it.
      temperature: float32 [B]; 0 takes the most probable token.
      top_p: float32 [B]; below 1, tokens are drawn as by the sampler `nucleus`.
      tops: bool scalar, whether the most probable tokens at each place are wanted.
    """

    token: Int32[jax.Array, " b"]
    length: Int32[jax.Array, " b"]
    limit: Int32[jax.Array, " b"]
    seed: Int32[jax.Array, " b"]
    place: Int32[jax.Array, " b"]
    temperature: Float32[jax.Array, " b"]
    top_p: Float32[jax.Array, " b"]
    tops: Bool[jax.Array, ""]


class Chosen(NamedTuple):
    """Tokens of each row, with log-probabilities under the model's own distribution.

    Attributes:
      tokens: int32 [B,T], 0 where a row was not continued.
      logprobs: float32 [B,T].
      top_tokens: int32 [B,T,K], the most probable tokens at each place; zeros where not wanted.
      top_logprobs: float32 [B,T,K], of these.
    """

    tokens: Int32[jax.Array, "b t"]
    logprobs: Float32[jax.Array, "b t"]
    top_tokens: Int32[jax.Array, "b t k"]
    top_logprobs: Float32[jax.Array, "b t k"]


def choose(logits: Float32[jax.Array, "b v"], rows: Rows) -> Chosen:
    """Chooses the next token of every row; T is 1."""
    key = jax.vmap(lambda *row: jax.random.fold_in(_key(*row[:2]), row[2]))
    tokens = _tokens(key(rows.seed, rows.place, rows.length), logits, rows.temperature, rows.top_p)
    k = min(MOST_TOPS, logits.shape[1])

    def tops() -> tuple[jax.Array, jax.Array]:
        ids = jax.lax.top_k(logits, k)[1].astype(jnp.int32)
        return ids, logprobs_of(logits, ids)

    def none() -> tuple[jax.Array, jax.Array]:
        shape = (logits.shape[0], k)
        return jnp.zeros(shape, jnp.int32), jnp.zeros(shape)

    ids, values = jax.lax.cond(rows.tops, tops, none)
    logprobs = logprobs_of(logits, tokens[:, None])
    return Chosen(tokens[:, None], logprobs, ids[:, None], values[:, None])


def advance_rows(
    extend: Extend, rows: Rows, cache: Cache, *, steps: int, eos_id: int
) -> tuple[Cache, Chosen]:
    """Continues rows by up to `steps` tokens each, until each has ended; called under `jax.jit`.

    Args:
      extend: adds one token to the cache.
      rows: of which each has at least one token that is not yet in the cache.
      cache: of these rows.
      steps: T.
      eos_id: the token that ends a row.

    Returns:
      The cache, and the new tokens.
    """
    first = jax.eval_shape(lambda: choose(extend(rows.token, cache)[0], rows))
    blank = Chosen(*(jnp.zeros((x.shape[0], steps, *x.shape[2:]), x.dtype) for x in first))

    def body(state):
        t, rows, cache, out = state
        logits, cache = extend(rows.token, cache)
        going = rows.length < rows.limit
        new = choose(logits, rows)
        new = new._replace(tokens=jnp.where(going[:, None], new.tokens, 0))
        out = jax.tree.map(
            lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, t, axis=1), out, new
        )
        token, length = new.tokens[:, 0], rows.length + going.astype(jnp.int32)
        limit = jnp.where(token == eos_id, length, rows.limit)
        return t + 1, rows._replace(token=token, length=length, limit=limit), cache, out

    def unfinished(state):
        t, rows, _, _ = state
        return (t < steps) & (rows.length < rows.limit).any()

    _, _, cache, out = jax.lax.while_loop(unfinished, body, (jnp.int32(0), rows, cache, blank))
    return cache, out


def _key(seed: jax.Array, place: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), place)


def _tokens(keys, logits, temperature, top_p):
    """Each row's token, without the work of ways of choosing that no row asks for."""
    value = jnp.maximum(temperature, COLDEST)

    def drawn():
        plain = jax.vmap(draw)(keys, logits, value)
        narrow = top_p < 1
        return jax.lax.cond(
            narrow.any(),
            lambda: jnp.where(narrow, jax.vmap(draw_nucleus)(keys, logits, top_p, value), plain),
            lambda: plain,
        )

    best, warm = jax.vmap(greedy)(keys, logits), temperature >= COLDEST
    return jax.lax.cond(warm.any(), lambda: jnp.where(warm, drawn(), best), lambda: best)
