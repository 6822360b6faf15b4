"""Beam search and best-of-n against every possible answer of a small model, scored by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.decoding.decoders import make_decoder
from pgjax.decoding.generate import plain_rules

EOS, VOCAB, STEPS = 1, 4, 5
FIRST = np.array([0, 2, 3])
# The next token's logits depend on the last two tokens, which the cache holds.
TABLE = np.random.default_rng(1).normal(size=(VOCAB, VOCAB, VOCAB)).astype(np.float32) * 1.5
LOGP = TABLE - np.log(np.exp(TABLE.astype(np.float64)).sum(-1, keepdims=True))


def decode(text, rows=FIRST, seed=0, **changes):
    table = jnp.asarray(TABLE)
    rows = jnp.asarray(rows)
    rules = plain_rules(len(rows), VOCAB, limit=STEPS, eos_id=EOS, key=jax.random.key(seed))
    out = make_decoder(text)(
        lambda: (table[0, rows], rows),
        lambda token, last: (table[last, token], token),
        lambda cache, chosen: cache[chosen],
        rules._replace(**changes),
        max_new_tokens=STEPS,
    )
    return np.asarray(out.tokens), np.asarray(out.logprobs)


def score(first, answer):
    before, last, total = 0, first, []
    for token in answer:
        total.append(LOGP[before, last, token])
        before, last = last, token
    return total


@functools.cache
def all_answers():
    """Every answer that ends with eos within the limit."""
    others = [t for t in range(VOCAB) if t != EOS]
    return [(*body, EOS) for n in range(STEPS) for body in itertools.product(others, repeat=n)]


def padded(answer):
    return [*answer, *[0] * (STEPS - len(answer))]


def test_a_wide_beam_finds_the_best_answer_of_all():
    tokens, logprobs = decode(f"beam({3**4})")
    for row, first in enumerate(FIRST):
        best = max(all_answers(), key=lambda a: sum(score(first, a)))
        assert tokens[row].tolist() == padded(best)
        np.testing.assert_allclose(logprobs[row], padded(score(first, best)), atol=1e-5)


def by_hand(first, beams):
    """Beam search in lists: (score, answer) of the best that finished."""
    live, done = [(0.0, ())], []
    for _ in range(STEPS):
        grown = [(sum(score(first, (*a, t))), (*a, t)) for _, a in live for t in range(VOCAB)]
        done += [x for x in grown if x[1][-1] == EOS]
        live = sorted((x for x in grown if x[1][-1] != EOS), reverse=True)[:beams]
    return max(done)[1]


@pytest.mark.parametrize("beams", [1, 2, 3])
def test_a_narrow_beam_step_by_step(beams):
    tokens, _ = decode(f"beam({beams})")
    assert tokens.tolist() == [padded(by_hand(first, beams)) for first in FIRST]


def test_beam_rules():
    want, _ = decode("beam(3)")
    valid = jnp.array([True, False, True])
    tokens, logprobs = decode("beam(3)", row_valid=valid)
    np.testing.assert_array_equal(tokens, want * np.asarray(valid)[:, None])
    assert not logprobs[1].any()
    tokens, _ = decode("beam(3)", limit=jnp.int32(2))
    assert not tokens[:, 2:].any() and (tokens[:, :2] == EOS).any(axis=1).all()
    forbidden = int(want[want > EOS][0])
    tokens, _ = decode("beam(3)", allowed=jnp.arange(VOCAB) != forbidden)
    assert not (tokens == forbidden).any()


def test_best_of_keeps_the_most_probable_sample():
    single = [decode("temperature", rows=[2] * 64, seed=s) for s in range(3)]
    mean = np.mean([lp.sum(axis=1).mean() for _, lp in single])
    tokens, logprobs = decode("best_of(16)", rows=[2] * 64)
    assert logprobs.sum(axis=1).mean() > mean + 0.5
    for row, answer in enumerate(tokens):
        answer = np.trim_zeros(answer, "b") if EOS in answer else answer
        np.testing.assert_allclose(
            logprobs[row][: len(answer)], score(2, answer.tolist()), atol=1e-5
        )
    again, _ = decode("best_of(16)", rows=[2] * 64)
    np.testing.assert_array_equal(tokens, again)
    # One of one is a sample; of many, the most probable answer of all.
    assert len({tuple(t) for t in decode("best_of(1)", rows=[2] * 64)[0].tolist()}) > 10
