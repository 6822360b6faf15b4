import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.decoding.decoders import make_decoder, make_sampler
from pgjax.decoding.samplers import greedy
from pgjax.errors import UserError


def draw(sampler, seed, logits):
    """One token for each row of logits [B,V]."""
    keys = jax.random.split(jax.random.key(seed), len(logits))
    return jax.vmap(sampler)(keys, jnp.asarray(logits))


def frequencies(text, logits, count=20_000):
    logits = np.tile(np.asarray(logits, np.float32), (count, 1))
    return np.bincount(draw(make_sampler(text), 0, logits), minlength=logits.shape[1]) / count


def test_greedy_takes_the_first_largest():
    logits = jnp.asarray([[0.0, 2.0, 1.0], [3.0, 3.0, -1.0]])
    for sampler in (greedy, make_sampler("greedy"), make_sampler("greedy()")):
        for seed in range(3):
            token = draw(sampler, seed, logits)
            assert token.dtype == jnp.int32
            np.testing.assert_array_equal(token, [1, 0])


@pytest.mark.parametrize("size", [1, 100, 128, 1024, 1025])
def test_greedy_is_argmax(size):
    logits = np.random.default_rng(size).integers(0, 9, (50, size)).astype(np.float32)  # ties
    logits[0] = -np.inf
    logits[1, : size // 2] = -np.inf
    got = jax.vmap(lambda row: greedy(jax.random.key(0), row))(logits)
    np.testing.assert_array_equal(got, logits.argmax(1))


def test_a_low_temperature_is_almost_greedy():
    logits = jnp.tile(jnp.asarray([0.0, 1.0, 0.9]), (500, 1))
    token = draw(make_sampler("temperature(0.005)"), 0, logits)
    np.testing.assert_array_equal(token, 1)


def test_temperature_is_1_unless_said():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(100, 5)), jnp.float32)
    draws = [
        draw(make_sampler(text), 1, logits)
        for text in ("temperature", "temperature()", "temperature(1.0)", "temperature( 1 )")
    ]
    for other in draws[1:]:
        np.testing.assert_array_equal(other, draws[0])
    other = draw(make_sampler("temperature(3)"), 1, logits)
    assert (np.asarray(other) != np.asarray(draws[0])).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nucleos", r"'nucleos' is not a known sampler; did you mean 'nucleus'"),
        ("nucleus", "numbers"),
        ("nucleus(0)", "p must be above 0 and at most 1"),
        ("nucleus(1.1)", "p must be above 0 and at most 1"),
        ("top_k(0)", "whole number from 1"),
        ("top_k(2.5)", "whole number from 1"),
        ("top_k(2, 0)", "positive"),
        ("beam(2)", "token by token"),
        ("", r"'' is not a known sampler; expected one of greedy, temperature"),
        ("temperature(0.7", r"'temperature\(0.7'"),
        ("temperature(", r"'temperature\('"),
        ("greedy(", r"'greedy\('"),
        ("greedy)", r"'greedy\)'"),
        ("temperature(0.7))", "numbers"),
        ("temperature(warm)", "numbers"),
        ("temperature(0.7, 2)", "numbers"),
        ("greedy(1)", "numbers"),
        ("temperature(0)", r"temperature\(0.0\).*positive"),
        ("temperature(-1)", "positive"),
        ("temperature(1e-30)", "positive"),
        ("temperature(nan)", "finite numbers"),
        ("top_k(1e999)", "finite numbers"),
    ],
)
def test_parse_errors(text, message):
    with pytest.raises(UserError, match=message):
        make_sampler(text)


LOGITS = np.log([0.4, 0.05, 0.3, 0.05, 0.2])


def test_top_k_has_the_right_distribution():
    np.testing.assert_allclose(frequencies("top_k(2)", LOGITS), [4 / 7, 0, 3 / 7, 0, 0], atol=0.015)
    np.testing.assert_allclose(frequencies("top_k(9)", LOGITS), np.exp(LOGITS), atol=0.015)
    squared = np.array([0.4, 0, 0.3, 0, 0.2]) ** 2  # temperature ½ squares probabilities
    got = frequencies("top_k(3, 0.5)", LOGITS)
    np.testing.assert_allclose(got, squared / squared.sum(), atol=0.015)


@pytest.mark.parametrize(
    ("p", "kept"), [(0.3, [0]), (0.41, [0, 2]), (0.69, [0, 2]), (0.8, [0, 2, 4]), (1.0, range(5))]
)
def test_nucleus_is_the_smallest_set_with_share_p(p, kept):
    want = np.where(np.isin(np.arange(5), kept), np.exp(LOGITS), 0)
    got = frequencies(f"nucleus({p})", LOGITS)
    np.testing.assert_allclose(got, want / want.sum(), atol=0.015)


@pytest.mark.parametrize("text", ["beam", "beam(2, 3)", "best_of()", "beam(2"])
def test_searches_want_their_arguments(text):
    with pytest.raises(UserError, match=r"expected (beam|best_of)\("):
        make_decoder(text)


@pytest.mark.parametrize("text", ["beam(0)", "beam(1.5)", "beam(1e9)", "best_of(-1)"])
def test_searches_want_a_whole_number(text):
    with pytest.raises(UserError, match="expected a whole number from 1"):
        make_decoder(text)
