"""Decoders that follow several continuations of each row: beam search, and best of n samples."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Int32

from pgjax.decoding.generate import Cache, Extend, Generated, Prefill, Rules, generate
from pgjax.decoding.samplers import Sampler
from pgjax.sharding import by_rows, take_rows

# (cache, rows int32 [M]) -> a cache of the given rows. M is a multiple of the batch, and the rows
# for each device are among those that it holds, so that none moves.
Take = Callable[[Cache, Int32[jax.Array, " m"]], Cache]


def best_of(
    prefill: Prefill,
    extend: Extend,
    take: Take,
    rules: Rules,
    *,
    n: int,
    sampler: Sampler,
    max_new_tokens: int,
) -> Generated:
    """Draws n continuations of each row, and returns the one that the model finds most probable.

    Args:
      prefill: fills a cache with room for `max_new_tokens` tokens.
      extend: adds one token to the cache.
      take: takes rows of a cache.
      rules: conditions such as the limit and the tokens that end a row.
      n: continuations of each row.
      sampler: chooses the next token of one row.
      max_new_tokens: T, the size of the result.
    """
    b = rules.row_valid.shape[0]
    rows = jnp.repeat(jnp.arange(b, dtype=jnp.int32), n)

    def prefill_all() -> tuple[jax.Array, Cache]:
        logits, cache = prefill()
        return jnp.repeat(logits, n, axis=0), take(cache, rows)

    keys = jax.vmap(lambda key: jax.random.split(key, n))(rules.keys).reshape(-1)
    each = rules._replace(keys=keys, row_valid=jnp.repeat(rules.row_valid, n))
    out = generate(prefill_all, extend, each, sampler=sampler, max_new_tokens=max_new_tokens)
    best = jnp.argmax(out.logprobs.sum(axis=1).reshape(b, n), axis=1)
    chosen = jnp.arange(b, dtype=jnp.int32) * n + best.astype(jnp.int32)
    return Generated(*(take_rows(x, chosen) for x in out))


def beam_search(
    prefill: Prefill,
    extend: Extend,
    take: Take,
    rules: Rules,
    *,
    beams: int,
    max_new_tokens: int,
) -> Generated:
    """Searches for the most probable continuation by beams, as big_vision does.

    There is no length penalty. After every token each beam is also tried as a finished
    continuation. The best finished one so far is kept, and the beams go on with tokens that do not
    end them. Log-probabilities only fall, so the search is over when no beam is as probable as the
    best finished continuation. A continuation always ends within the limit.

    Args:
      prefill: fills a cache with room for `max_new_tokens` tokens.
      extend: adds one token to the cache.
      take: takes rows of a cache.
      rules: conditions such as the limit and the tokens that end a row.
      beams: number of beams of each row.
      max_new_tokens: T, the size of the result.

    Returns:
      The best finished continuation of each row.
    """
    logits, cache = prefill()
    b, vocab = logits.shape
    first = jnp.arange(b, dtype=jnp.int32)
    logits, cache = jnp.repeat(logits, beams, axis=0), take(cache, jnp.repeat(first, beams))
    blank = Generated(
        jnp.zeros((b, beams, max_new_tokens), jnp.int32), jnp.zeros((b, beams, max_new_tokens))
    )
    best = (jnp.where(rules.row_valid, -jnp.inf, 0.0), jax.tree.map(lambda x: x[:, 0], blank))
    # All beams of a row are equal at first, so only one of them may continue.
    scores = jnp.where(jnp.arange(beams)[None] == 0, 0.0, jnp.full((b, beams), -jnp.inf))

    def step(t, logits, scores, seqs, best):
        logprobs = jax.nn.log_softmax(logits).reshape(b, beams, vocab)
        total = scores[:, :, None] + logprobs
        may = rules.may_follow(seqs.tokens.reshape(b * beams, -1), t)
        total = jnp.where(may.reshape(-1, beams if len(may) > 1 else 1, vocab), total, -jnp.inf)
        best = _better(t, jnp.where(rules.stops[None, None], total, -jnp.inf), logprobs, seqs, best)
        open_ = jnp.where(rules.stops[None, None], -jnp.inf, total).reshape(b, -1)
        scores, flat = by_rows(functools.partial(jax.lax.top_k, k=beams))(open_)
        parent, token = flat // vocab, (flat % vocab).astype(jnp.int32)
        chosen = jnp.take_along_axis(logprobs.reshape(b, -1), flat, axis=1)
        seqs = _append(t, seqs, parent, token, chosen)
        return scores, seqs, best, parent, token

    def body(state):
        t, scores, seqs, best, parent, token, cache = state
        rows = (first[:, None] * beams + parent.astype(jnp.int32)).reshape(-1)
        logits, cache = extend(token.reshape(-1), take(cache, rows))
        return (t + 1, *step(t, logits, scores, seqs, best), cache)

    def unfinished(state):
        t, scores, _, (best_score, _), *_ = state
        return (t < rules.limit) & (scores.max(axis=1) > best_score).any()

    state = (jnp.int32(1), *step(jnp.int32(0), logits, scores, blank, best), cache)
    *_, (score, answer), _, _, _ = jax.lax.while_loop(unfinished, body, state)
    found = (jnp.isfinite(score) & rules.row_valid)[:, None]
    return Generated(*(jnp.where(found, x, jnp.zeros_like(x)) for x in answer))


def _better(t, finished, logprobs, seqs: Generated, best):
    """Replaces each row's best finished continuation where a beam finishes with a higher score."""
    b, _, vocab = finished.shape
    flat = jnp.argmax(finished.reshape(b, -1), axis=1)
    score = jnp.take_along_axis(finished.reshape(b, -1), flat[:, None], axis=1)
    chosen = jnp.take_along_axis(logprobs.reshape(b, -1), flat[:, None], axis=1)
    parent, token = (flat // vocab)[:, None], (flat % vocab).astype(jnp.int32)[:, None]
    answer = _append(t, seqs, parent, token, chosen)
    old_score, old = best
    wins = score[:, 0] > old_score
    new = (jnp.where(wins[:, None], a[:, 0], o) for a, o in zip(answer, old, strict=True))
    return jnp.where(wins, score[:, 0], old_score), Generated(*new)


def _append(t, seqs: Generated, parent, token, logprob) -> Generated:
    """Returns the sequences [B,M,T] of the parents [B,M], with one more token at t."""
    tokens, logprobs = (jnp.take_along_axis(x, parent[:, :, None], axis=1) for x in seqs)
    return Generated(
        jax.lax.dynamic_update_slice_in_dim(tokens, token[:, :, None], t, axis=2),
        jax.lax.dynamic_update_slice_in_dim(logprobs, logprob[:, :, None], t, axis=2),
    )
