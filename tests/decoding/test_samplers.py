import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.decoding.samplers import greedy, make_sampler
from pgjax.errors import UserError


def test_greedy_takes_the_first_largest():
    logits = jnp.asarray([[0.0, 2.0, 1.0], [3.0, 3.0, -1.0]])
    for sampler in (greedy, make_sampler("greedy"), make_sampler("greedy()")):
        for seed in range(3):
            token = sampler(jax.random.key(seed), logits)
            assert token.dtype == jnp.int32
            np.testing.assert_array_equal(token, [1, 0])


def test_a_low_temperature_is_almost_greedy():
    logits = jnp.tile(jnp.asarray([0.0, 1.0, 0.9]), (500, 1))
    token = make_sampler("temperature(0.005)")(jax.random.key(0), logits)
    np.testing.assert_array_equal(token, 1)


def test_temperature_is_1_unless_said():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(100, 5)), jnp.float32)
    draws = [
        make_sampler(text)(jax.random.key(1), logits)
        for text in ("temperature", "temperature()", "temperature(1.0)", "temperature( 1 )")
    ]
    for draw in draws[1:]:
        np.testing.assert_array_equal(draw, draws[0])
    other = make_sampler("temperature(3)")(jax.random.key(1), logits)
    assert (np.asarray(other) != np.asarray(draws[0])).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nucleus", r"'nucleus' is unknown.*greedy.*temperature"),
        ("", r"'' is unknown"),
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
        ("temperature(nan)", "positive"),
    ],
)
def test_parse_errors(text, message):
    with pytest.raises(UserError, match=message):
        make_sampler(text)
