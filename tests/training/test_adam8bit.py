"""Adam's moments in 8 bits: codes against the paper's form, and training beside exact Adam."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pgjax import sharding
from pgjax.training.adam8bit import pack, scale_by_adam8bit, unpack
from pgjax.training.optimizer import apply_optimizer, make_optimizer
from pgjax.training.state import create_state

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def decoded(x, signed):
    return np.asarray(quick_jit(lambda x: unpack(pack(x, signed=signed), signed=signed))(x))


@pytest.mark.parametrize("signed", [True, False])
def test_every_code_comes_back(signed):
    """All 256 levels survive a second pass, so a moment that stays does not drift."""
    codes = jnp.arange(256, dtype=jnp.uint8).reshape(1, 256)
    levels = unpack(pack(jnp.ones((1, 256)), signed=signed)._replace(codes=codes), signed=signed)
    if signed:  # 128 is a negative zero
        levels = levels.at[0, 128].set(0.0)
    levels = np.asarray(levels)
    assert len(np.unique(levels)) == (255 if signed else 256)
    scale = np.abs(levels).max()  # a block's own largest magnitude is its scale
    again = decoded(jnp.asarray(levels), signed) / scale
    np.testing.assert_allclose(again, levels, rtol=1e-5)


@pytest.mark.parametrize("signed", [True, False])
def test_error_of_a_value(signed):
    """In decade i below the largest, 2^i levels divide 0.9 of it: Dettmers et al., section 2.1."""
    x = np.random.default_rng(0).normal(size=(8, 512)).astype(np.float32)
    x = x if signed else np.square(x)
    got = decoded(jnp.asarray(x), signed)
    most = np.abs(x.reshape(8, 2, 256)).max(axis=-1, keepdims=True).repeat(256, -1).reshape(8, 512)
    bits = 7 if signed else 8
    decade = np.clip(np.floor(np.log10(np.abs(x) / most)) + bits, 0, bits - 1)
    half_step = 0.45 * most * 10.0 ** (decade - bits + 1) / 2.0**decade
    assert (np.abs(got - x) <= half_step * 1.01 + 1e-9).all()
    assert (np.sign(got) == np.sign(x)).all()


def test_what_is_small_is_not_nothing():
    """A second moment of 0 beside a first that is not would make a step without bound."""
    x = jnp.asarray([[1.0, 1e-12, 0.0] + [0.5] * 253], jnp.float32)
    got = decoded(x, False)[0]
    assert got[1] > 0 and got[2] == 0


def make(name, params, **kwargs):
    return make_optimizer(
        name=name, lr=0.02, schedule=lambda i: jnp.float32(1), names=list(params),
        lr_multipliers=dict.fromkeys(params, 1.0), decay_rules=[(".*", 0.0)], **kwargs,
    )  # fmt: skip


def problem():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(64, 96)), jnp.float32)
    y = jnp.tanh(x @ jnp.asarray(rng.normal(size=(96, 8)) / 10, jnp.float32))
    params = {
        "a": jnp.asarray(rng.normal(size=(2, 96, 96)) / 10, jnp.float32),
        "b": jnp.asarray(rng.normal(size=(96, 8)) / 10, jnp.float32),
    }

    def loss(p):
        hidden = x
        for w in p["a"]:
            hidden = jnp.tanh(hidden @ w)
        return jnp.mean(jnp.square(hidden @ p["b"] - y))

    return params, loss


def losses(tx, steps=60):
    params, loss = problem()

    @quick_jit
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        return value, *apply_optimizer(tx, grads, state, params)[:2]

    state, out = tx.init(params), []
    for _ in range(steps):
        value, params, state = step(params, state)
        out.append(float(value))
    return np.array(out)


@pytest.mark.parametrize(
    ("name", "args"),
    [("adam8bit", {}), ("adam", {"mu_dtype": "bfloat16", "nu_dtype": "bfloat16"})],
)
def test_learns_as_exact_adam_does(name, args):
    params, _ = problem()
    exact, small = losses(make("adam", params)), losses(make(name, params, args=args))
    assert exact[-1] < 0.1 * exact[0]
    np.testing.assert_allclose(small, exact, atol=0.02 * exact[0])


def test_size_of_the_state():
    """Codes of one byte each and a float32 scale for 256: under a third of Adam's 8 bytes."""
    params = {"w": jnp.zeros((18, 64, 512)), "bias": jnp.zeros((8,))}
    size = sum(x.nbytes for x in jax.tree.leaves(scale_by_adam8bit().init(params)))
    exact = sum(x.nbytes for x in jax.tree.leaves(optax.scale_by_adam().init(params)))
    assert size < exact / 3.8


def test_codes_lie_where_their_parameter_lies():
    mesh = sharding.make_mesh()
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "data"))
    params = {"w": jax.device_put(jnp.zeros((64, 512)), split)}
    state = create_state(params, make("adam8bit", params), mesh, seed=0)
    moments = [x for x in jax.tree.leaves(state.opt_state) if x.ndim]
    assert {x.shape for x in moments} == {(64, 512), (64, 2)}
    assert all(x.sharding.spec == split.spec for x in moments)


def test_bfloat16_second_moments_fall():
    """Rounded to the nearest they could not: a step takes 0.1 %, half a last place is 0.2 %."""
    params = {"w": jnp.zeros((64, 64))}
    tx = make("adam", params, args={"nu_dtype": "bfloat16"})
    grads = {"w": jnp.ones((64, 64))}
    step = quick_jit(lambda g, s: apply_optimizer(tx, g, s, params)[1])
    state = step(grads, tx.init(params))
    for _ in range(500):
        state = step({"w": jnp.zeros((64, 64))}, state)
    nu = np.asarray(state[0].nu["w"].astype(jnp.float32))
    assert state[0].nu["w"].dtype == jnp.bfloat16
    assert nu.mean() == pytest.approx(0.001 * 0.999**500, rel=0.02)


@pytest.mark.parametrize("shape", [(6, 4, 512), (160, 512), (27, 512), (4608,), (7, 640)])
def test_slices_are_updated_as_the_whole_is(shape):
    """Whatever a parameter is cut into, a step is that of all its blocks at once."""
    rng = np.random.default_rng(0)
    grads = [jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(3)]
    tx = scale_by_adam8bit()
    # The last axis decides the blocks, so a matrix of one row a slice has the same.
    flat = [g.reshape(1, -1, shape[-1]) for g in grads]
    state, whole = tx.init({"w": grads[0]}), tx.init({"w": flat[0]})
    for g, f in zip(grads, flat, strict=True):
        updates, state = quick_jit(tx.update)({"w": g}, state)
        want, whole = quick_jit(tx.update)({"w": f}, whole)
        # A value on the edge between two codes may fall to either.
        apart = np.abs(updates["w"].reshape(f.shape) - want["w"]) > 1e-5
        assert apart.mean() < 1e-3
    other = state.mu["w"].codes.reshape(f.shape) != whole.mu["w"].codes
    assert np.asarray(other).mean() < 1e-3


def test_float32_moments_exist_of_a_slice_only():
    layers, width = 8, 1024
    params = {
        "stack": jax.ShapeDtypeStruct((layers, width, width), jnp.float32),
        "table": jax.ShapeDtypeStruct((layers * width, width), jnp.float32),
    }
    tx = make("adam8bit", params)
    state = jax.eval_shape(tx.init, params)

    def step(params, state):
        grads = {n: 0.1 * x for n, x in params.items()}
        return apply_optimizer(tx, grads, state, params)[:2]

    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state).compile()
    whole = 2 * 4 * layers * width * width  # of the gradients, which are there at once
    # A CPU copies what a loop updates, once; all moments at once would take six times as much.
    assert compiled.memory_analysis().temp_size_in_bytes < 2.5 * whole
