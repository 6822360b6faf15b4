"""Rows that begin and end at different times, with a chain whose logits are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.decoding.continuous import MOST_TOPS, Rows, advance_rows, choose
from pgjax.decoding.generate import Rules, generate
from pgjax.decoding.samplers import greedy, nucleus, temperature

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

EOS, VOCAB, STEPS = 1, 40, 6
TABLE = jnp.asarray(np.random.default_rng(0).normal(size=(VOCAB, VOCAB)) * 2, jnp.float32)


def extend(token, calls):
    return TABLE[token], calls + 1


def rows(number, **changes):
    """So many greedy rows with one token each."""
    blank = Rows(
        token=np.arange(2, 2 + number, dtype=np.int32),
        length=np.ones(number, np.int32),
        limit=np.full(number, 100, np.int32),
        seed=np.zeros(number, np.int32),
        place=np.zeros(number, np.int32),
        temperature=np.zeros(number, np.float32),
        top_p=np.ones(number, np.float32),
        tops=np.bool_(False),
    )
    kinds = {"temperature": np.float32, "top_p": np.float32, "tops": np.bool_}
    made = {name: np.asarray(x, kinds.get(name, np.int32)) for name, x in changes.items()}
    return blank._replace(**made)


@quick_jit
def go(rows):
    return advance_rows(extend, rows, jnp.int32(0), steps=STEPS, eos_id=EOS)


def alone(token, sampler, seed=0, index=0, length=1 + STEPS):
    """What `generate` makes of the chain after a token, as row `index` of its batch."""

    @quick_jit
    def run():
        keys = jax.random.fold_in(jax.random.key(seed), index)[None]
        valid, stops = jnp.ones(1, bool), jnp.arange(VOCAB) == EOS
        rules = Rules(keys, jnp.int32(length), valid, jnp.ones(VOCAB, bool), stops)
        logits = jnp.where(jnp.arange(VOCAB) == token, 0.0, -1e9)[None]  # the first is the token
        return generate(
            lambda: (logits, jnp.int32(0)), extend, rules, sampler=sampler, max_new_tokens=length
        )

    out = run()
    return np.asarray(out.tokens)[0, 1:], np.asarray(out.logprobs)[0, 1:]


def test_each_row_is_chosen_in_its_own_way():
    """Greedy, drawn, and drawn from a nucleus, beside each other: as each of them alone."""
    asked = rows(4, temperature=[0, 1.5, 0.7, 2], top_p=[1, 1, 0.6, 1], seed=[0, 3, 3, 9],
                 place=[0, 0, 2, 1])  # fmt: skip
    _, chosen = go(asked)
    ways = [greedy, temperature(1.5), nucleus(0.6, 0.7), temperature(2)]
    for row, sampler in enumerate(ways):
        tokens, logprobs = alone(2 + row, sampler, int(asked.seed[row]), int(asked.place[row]))
        np.testing.assert_array_equal(chosen.tokens[row], tokens)
        np.testing.assert_allclose(chosen.logprobs[row][tokens > 0], logprobs[tokens > 0], 1e-5)


def test_a_row_goes_on_where_it_was():
    """In two calls as in one, although the other rows are others then."""
    _, whole = go(rows(3, temperature=[1, 1, 1], seed=[4, 4, 4]))
    second = np.asarray(whole.tokens)[1]
    again = rows(3, token=[7, second[2], 9], length=[1, 4, 30], temperature=[1, 1, 1],
                 seed=[8, 4, 2])  # fmt: skip
    _, rest = go(again)
    np.testing.assert_array_equal(rest.tokens[1][:3], second[3:])


def test_ends():
    """A row ends with eos or its limit, and the loop when all rows have ended."""
    ends = int(np.argmax(TABLE[:, EOS] - TABLE.max(axis=1)))  # after this token comes eos
    assert int(TABLE[ends].argmax()) == EOS
    calls, chosen = go(rows(3, token=[ends, 5, 6], limit=[100, 3, 1]))
    tokens = np.asarray(chosen.tokens)
    assert tokens[0].tolist() == [EOS] + [0] * (STEPS - 1)
    assert (tokens[1, :2] > 0).all() and not tokens[1, 2:].any() and not tokens[2].any()
    assert calls == 2


@pytest.mark.parametrize("wanted", [True, False])
def test_most_probable_tokens(wanted):
    chosen = quick_jit(choose)(TABLE[2:5], rows(3, length=[0, 0, 0], tops=wanted))
    found = np.asarray(chosen.top_tokens)[:, 0]
    if not wanted:
        assert not found.any() and found.shape == (3, MOST_TOPS)
        return
    np.testing.assert_array_equal(found, np.argsort(-TABLE[2:5], axis=1)[:, :MOST_TOPS])
    logprobs = jax.nn.log_softmax(TABLE[2:5])
    want = np.take_along_axis(np.asarray(logprobs), found, axis=1)
    np.testing.assert_allclose(chosen.top_logprobs[:, 0], want, rtol=1e-5)
    np.testing.assert_array_equal(chosen.tokens[:, 0], found[:, 0])
