"""Generation with models whose logits are known, so that every token can be told by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.decoding.decoders import make_sampler
from pgjax.decoding.generate import advance, begin, generate, plain_rules
from pgjax.decoding.samplers import greedy

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

EOS = 1
VOCAB = 6
# After each token comes, most probably: 2→3, 3→4, 4→1 (eos); 5→5 for ever; after eos 2 again.
NEXT = np.array([2, 2, 3, 4, EOS, 5])
LOGITS = np.random.default_rng(0).normal(size=(VOCAB, VOCAB)).astype(np.float32)
LOGITS[np.arange(VOCAB), NEXT] = 5.0


@functools.cache
def compiled(first, steps, table, sampler, eos):
    """Generation from a first-order chain, and the list of its calls of `extend`.

    The chain's cache is the number of calls.
    """
    first, table = np.array(first), jnp.asarray(np.array(table, np.float32))
    calls = []

    def extend(token, count):
        jax.debug.callback(lambda n: calls.append(int(n)), count, ordered=True)
        return table[token], count + 1

    @quick_jit
    def go(key, valid):
        rules = plain_rules(len(first), len(table), limit=steps, eos_id=eos, key=key)
        return generate(
            lambda: (table[first], jnp.int32(0)), extend, rules._replace(row_valid=valid),
            sampler=sampler, max_new_tokens=steps,
        )  # fmt: skip

    return go, calls


def run(first, steps, row_valid=None, logits=LOGITS, sampler=greedy, seed=0, eos=EOS):
    """(tokens, logprobs, how often `extend` was called)."""
    table = tuple(map(tuple, logits.tolist()))
    go, calls = compiled(tuple(first), steps, table, sampler, eos)
    calls.clear()
    valid = np.ones(len(first), bool) if row_valid is None else np.asarray(row_valid)
    out = go(jax.random.key(seed), jnp.asarray(valid))
    jax.effects_barrier()
    assert calls == list(range(len(calls)))  # in order, each with the cache of the one before
    return np.asarray(out.tokens), np.asarray(out.logprobs), len(calls)


def logprob(before, token):
    row = LOGITS[before].astype(np.float64)
    return row[token] - np.log(np.exp(row).sum())


def test_rows_stop_at_eos_and_stay_blank():
    tokens, logprobs, calls = run([2, 5, 4], 6)
    np.testing.assert_array_equal(tokens, [[3, 4, 1, 0, 0, 0], [5] * 6, [1, 0, 0, 0, 0, 0]])
    want = np.zeros((3, 6))
    for row, before in enumerate([2, 5, 4]):
        for t in range(6):
            if tokens[row, t]:
                want[row, t] = logprob(before, tokens[row, t])
                before = tokens[row, t]
    np.testing.assert_allclose(logprobs, want, atol=1e-6)
    assert (logprobs[0, :3] < 0).all()
    assert calls == 5  # the last token needs no extend


def test_stops_when_every_row_has_ended():
    tokens, _, calls = run([2, 3], 50)
    np.testing.assert_array_equal(tokens[:, :4], [[3, 4, 1, 0], [4, 1, 0, 0]])
    assert not tokens[:, 3:].any()
    assert calls == 2


def test_rows_that_do_not_count_stay_blank_and_nobody_waits():
    tokens, logprobs, calls = run([2, 5, 3], 20, row_valid=[True, False, True])
    np.testing.assert_array_equal(tokens[:, :3], [[3, 4, 1], [0, 0, 0], [4, 1, 0]])
    assert not tokens[1].any() and not logprobs[1].any()
    assert calls == 2


def test_no_row_counts():
    tokens, logprobs, calls = run([2, 5], 5, row_valid=[False, False])
    assert not tokens.any() and not logprobs.any() and calls == 0


def test_one_token():
    tokens, _, calls = run([2, 4], 1)
    np.testing.assert_array_equal(tokens, [[3], [1]])
    assert calls == 0


def test_eos_is_the_one_that_was_asked_for():
    tokens, _, _ = run([2], 5, eos=4)
    np.testing.assert_array_equal(tokens, [[3, 4, 0, 0, 0]])


def test_rows_are_independent():
    tokens, logprobs, _ = run([2, 5, 4], 6)
    for row in range(3):
        valid = np.arange(3) == row
        alone, alone_logprobs, _ = run([2, 5, 4], 6, row_valid=valid)
        np.testing.assert_array_equal(alone, tokens * valid[:, None])
        np.testing.assert_array_equal(alone_logprobs, logprobs * valid[:, None])


def test_sampling_is_reproducible_by_seed():
    kwargs = {
        "logits": np.zeros((VOCAB, VOCAB), np.float32),
        "sampler": make_sampler("temperature(1)"),
    }
    first, again, other = (run([2] * 20, 10, seed=seed, **kwargs)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert len({tuple(row) for row in first}) > 10  # rows draw for themselves
    live = first[(first[:, :2] != EOS).all(axis=1)]
    assert (live[:, 0] != live[:, 1]).any()  # and so do positions


def chi_square(counts, probabilities):
    expected = counts.sum() * probabilities
    return ((counts - expected) ** 2 / expected).sum()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sampling_has_the_right_distribution(temperature):
    logits = np.array([0.3, -1.0, 1.1], np.float32)
    sampler = make_sampler(f"temperature({temperature})")
    keys = jax.random.split(jax.random.key(7), 20_000)
    draws = jax.vmap(sampler, (0, None))(keys, jnp.asarray(logits))
    assert draws.dtype == jnp.int32
    counts = np.bincount(np.asarray(draws), minlength=3)
    weights = np.exp(logits.astype(np.float64) / temperature)
    assert chi_square(counts, weights / weights.sum()) < 13.8  # p = 0.001, two degrees of freedom
    assert chi_square(counts, np.full(3, 1 / 3)) > 100


def test_sampled_chain_has_the_right_transitions():
    """Second tokens follow the distribution that their own first token gives."""
    logits = np.random.default_rng(5).normal(size=(3, 3)).astype(np.float32)
    tokens, logprobs, _ = run(
        [0] * 6000, 2, logits=logits, sampler=make_sampler("temperature"), eos=99
    )
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    assert chi_square(np.bincount(tokens[:, 0], minlength=3), p[0]) < 13.8
    for first in range(3):
        seconds = tokens[tokens[:, 0] == first, 1]
        assert chi_square(np.bincount(seconds, minlength=3), p[first]) < 13.8
    np.testing.assert_allclose(logprobs[:, 1], np.log(p)[tokens[:, 0], tokens[:, 1]], atol=1e-5)


def test_logprobs_are_of_the_unscaled_distribution():
    tokens, logprobs, _ = run([2] * 50, 1, sampler=make_sampler("temperature(3)"))
    assert len(set(tokens[:, 0])) > 1
    np.testing.assert_allclose(logprobs[:, 0], [logprob(2, t) for t in tokens[:, 0]], atol=1e-6)


def test_strict_about_nothing_to_see():
    """Huge and infinite logits, as of forbidden tokens, give neither NaN nor a wrong token."""
    logits = np.full((VOCAB, VOCAB), -np.inf, np.float32)
    logits[np.arange(VOCAB), NEXT] = 1e30
    for sampler in (greedy, make_sampler("temperature(0.7)")):
        tokens, logprobs, _ = run([2], 4, logits=logits, sampler=sampler)
        np.testing.assert_array_equal(tokens, [[3, 4, 1, 0]])
        np.testing.assert_array_equal(logprobs, 0)


def test_a_limit_below_the_compiled_length():
    """The same program gives shorter answers."""
    rules = plain_rules(2, VOCAB, limit=2, eos_id=EOS)
    table = jnp.asarray(LOGITS)
    out = quick_jit(
        lambda: generate(
            lambda: (table[jnp.array([2, 5])], 0),
            lambda t, c: (table[t], c),
            rules,
            sampler=greedy,
            max_new_tokens=6,
        )
    )()
    np.testing.assert_array_equal(out.tokens, [[3, 4, 0, 0, 0, 0], [5, 5, 0, 0, 0, 0]])


def test_forbidden_tokens_and_further_stops():
    table = jnp.asarray(LOGITS)
    rules = plain_rules(2, VOCAB, limit=5, eos_id=EOS)

    def run_with(**changes):
        return generate(
            lambda: (table[jnp.array([2, 5])], 0), lambda t, c: (table[t], c),
            rules._replace(**changes), sampler=greedy, max_new_tokens=5,
        )  # fmt: skip

    ids = jnp.arange(VOCAB)
    out = run_with(allowed=ids != 4)
    assert not (np.asarray(out.tokens) == 4).any()
    second = np.where(np.arange(VOCAB) == 4, -np.inf, LOGITS[3]).argmax()
    assert out.tokens[0, 1] == second
    # The log-probability is that of the model, forbidden tokens included.
    np.testing.assert_allclose(out.logprobs[0, 1], logprob(3, second), atol=1e-6)
    out = run_with(stops=(ids == EOS) | (ids == 3))
    np.testing.assert_array_equal(out.tokens[0], [3, 0, 0, 0, 0])


@pytest.mark.parametrize("every", [1, 2, 5])
def test_in_parts_it_is_the_same(every):
    sampler = make_sampler("temperature(1.5)")
    rules = plain_rules(4, VOCAB, limit=9, eos_id=EOS, key=jax.random.key(3))
    table = jnp.asarray(LOGITS)
    model = (lambda: (table[jnp.array([2, 5, 0, 3])], 0), lambda t, c: (table[t], c))
    whole = generate(*model, rules, sampler=sampler, max_new_tokens=12)
    state = begin(model[0], rules, sampler=sampler, max_new_tokens=12)
    for until in range(every, 13, every):
        state = advance(model[1], rules, state, sampler=sampler, until=until)
        assert not np.asarray(state.out.tokens)[:, max(until, 1) :].any()
    np.testing.assert_array_equal(state.out.tokens, whole.tokens)
    np.testing.assert_array_equal(state.out.logprobs, whole.logprobs)
    assert (np.asarray(whole.tokens)[:, 9:] == 0).all()
