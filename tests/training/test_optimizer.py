"""The optimizer chain against optax's own optimizers and updates worked out by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pgjax import sharding
from pgjax.errors import UserError
from pgjax.training.optimizer import apply_optimizer, make_optimizer, split_trainable
from pgjax.training.schedules import make_schedule
from pgjax.training.state import create_state

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

SHAPES = {"img/head/kernel": (3, 4), "img/head/bias": (4,), "llm/w": (40, 64)}


def tree(seed, shapes=SHAPES, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=s), dtype) for name, s in shapes.items()}


def constant(value=1.0):
    return lambda count: jnp.float32(value)


def make(name="sgd", lr=1.0, schedule=None, multipliers=None, **kwargs):
    return make_optimizer(
        name=name, lr=lr, schedule=schedule or constant(), names=list(SHAPES),
        lr_multipliers=multipliers or dict.fromkeys(SHAPES, 1.0), **kwargs,
    )  # fmt: skip


def train(tx, params, grads):
    """Parameters after each of the gradients."""
    state, out = tx.init(params), []
    step = quick_jit(lambda g, s, p: apply_optimizer(tx, g, s, p)[:2])
    for grad in grads:
        params, state = step(grad, state, params)
        out.append(params)
    return out


def close(got, want, rtol=1e-6):
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=rtol, atol=1e-7, err_msg=name)


NAMES = ["img/a/kernel", "img/a/bias", "llm/layers/attn/w", "llm/layers/mlp/w"]


def test_first_match_decides():
    rules = [("img/.*", False), ("llm/.*/attn/.*", 0.1), ("llm/.*", True)]
    got = split_trainable(rules, NAMES)
    assert got == {"llm/layers/attn/w": 0.1, "llm/layers/mlp/w": 1.0}
    # Whole names: a prefix does not match.
    assert split_trainable([("img", 3.0), ("img/a/bias", 0), (".*", 2)][1:], NAMES) == {
        "img/a/kernel": 2.0, "llm/layers/attn/w": 2.0, "llm/layers/mlp/w": 2.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([("img/.*", True)], r"config.trainable: no rule matches 'llm/layers/attn/w'"),
        ([("llm/layer/.*", True), (".*", True)], r"'llm/layer/.\*' matches no parameter"),
        ([("img", True), (".*", True)], r"'img' matches no parameter"),
        ([(".*", False)], r"freezes every parameter"),
        ([("img/.*", 0.0), ("llm/.*", 0)], r"freezes every parameter"),
        ([("img/(", True), (".*", True)], r"'img/\(' is not a regular expression"),
        ([(".*", -0.5)], r"-0.5.*expected True, False or"),
        ([(".*", "yes")], r"yes.*expected True, False or"),
        ([(".*", None)], r"None.*expected True, False or"),
        ([(".*", [1])], r"\[1\].*expected True, False or"),
        ([(".*", float("nan"))], r"nan.*expected True, False or"),
    ],
)
def test_rule_errors(rules, message):
    with pytest.raises(UserError, match=message):
        split_trainable(rules, NAMES)


def test_a_shadowed_rule_is_no_error():
    assert len(split_trainable([(".*", True), ("img/.*", False)], NAMES)) == 4


def test_frozen_leaves_have_no_state():
    params = tree(0)
    some = {"llm/w": params["llm/w"]}
    tx = make("adam", multipliers={"llm/w": 1.0})
    shapes = {x.shape for x in jax.tree.leaves(tx.init(some))}
    assert shapes == {(40, 64), ()}


def size(state):
    """Elements, without the scalar counts."""
    return sum(x.size for x in jax.tree.leaves(state) if x.ndim)


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("sgd", {}, 0),
        ("momentum", {}, 2560),
        ("adam", {}, 2 * 2560),
        ("adamw", {}, 2 * 2560),
        ("adafactor", {}, 40 + 64 + 1),  # a row, a column, and a placeholder
        ("adafactor", {"momentum": 0.9}, 40 + 64 + 1 + 2560),
    ],
)
def test_size_of_the_state(name, args, expected):
    tx = make(name, multipliers={"llm/w": 1.0}, args=args)
    assert size(tx.init({"llm/w": jnp.zeros((40, 64))})) == expected


def test_sgd_by_hand():
    params, grads = tree(0), [tree(1), tree(2)]
    schedule = make_schedule(total_steps=4, decay="linear")
    one, two = train(make("sgd", lr=0.5, schedule=schedule), params, grads)
    want = {n: params[n] - 0.5 * 1.0 * grads[0][n] for n in params}
    close(one, want)
    close(two, {n: want[n] - 0.5 * 0.75 * grads[1][n] for n in params})


def test_weight_decay_is_scaled_by_the_schedule_and_not_by_lr():
    params, grads = tree(0), [tree(1), tree(2)]
    schedule = make_schedule(total_steps=4, decay="linear")
    tx = make("sgd", lr=1e-3, schedule=schedule, weight_decay=0.1)
    got = train(tx, params, grads)
    for factor, grad, after in zip((1.0, 0.75), grads, got, strict=True):
        params = {
            # The default rules decay the image tower's kernels only.
            n: p - factor * (1e-3 * grad[n] + (0.1 if n == "img/head/kernel" else 0.0) * p)
            for n, p in params.items()
        }
        close(after, params)


def test_decay_rules_and_multipliers():
    params, grad = tree(0), tree(1)
    tx = make(
        "sgd", lr=0.1, weight_decay=0.2, multipliers={**dict.fromkeys(SHAPES, 1.0), "llm/w": 0.5},
        decay_rules=(("img/.*/kernel", 0.0), ("llm/.*", 0.5), (".*", 1.0)),
    )  # fmt: skip
    [got] = train(tx, params, [grad])
    close(
        got,
        {
            "img/head/kernel": params["img/head/kernel"] - 0.1 * grad["img/head/kernel"],
            "img/head/bias": 0.8 * params["img/head/bias"] - 0.1 * grad["img/head/bias"],
            "llm/w": 0.9 * params["llm/w"] - 0.05 * grad["llm/w"],
        },
    )


def test_decay_rules_are_written_for_all_names():
    """Rules for frozen parameters are no error, and change nothing."""
    tx = make("sgd", multipliers={"llm/w": 1.0}, weight_decay=0.1)
    params, grad = {"llm/w": tree(0)["llm/w"]}, {"llm/w": tree(1)["llm/w"]}
    close(train(tx, params, [grad])[0], {"llm/w": params["llm/w"] - grad["llm/w"]})
    with pytest.raises(UserError, match=r"optimizer.decay_rules: 'image/.\*' matches no parameter"):
        make(decay_rules=(("image/.*", 1.0), (".*", 0.0)))


def test_adam_by_hand():
    """Kingma & Ba, arXiv:1412.6980, algorithm 1."""
    params, grads = tree(0), [tree(1), tree(2), tree(3)]
    got = train(make("adam", lr=0.01, args={"b2": 0.99}), params, grads)
    for name, p in params.items():
        p, m, v = np.asarray(p, np.float64), 0.0, 0.0
        for t, grad in enumerate(grads, 1):
            g = np.asarray(grad[name], np.float64)
            m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
            p = p - 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)
            np.testing.assert_allclose(got[t - 1][name], p, rtol=1e-5, atol=1e-6)


def test_adamw_is_that_of_optax():
    params, grads = tree(0), [tree(1), tree(2)]
    schedule = make_schedule(total_steps=5, decay="cosine")
    tx = make(
        "adamw", lr=0.02, schedule=schedule, weight_decay=0.3, decay_rules=((".*", 1.0),),
        args={"b2": 0.95},
    )  # fmt: skip
    rate = [0.02 * 0.5 * (1 + np.cos(np.pi * i / 5)) for i in range(2)]
    theirs = optax.adamw(lambda i: jnp.asarray(rate, jnp.float32)[i], b2=0.95, weight_decay=0.3)
    for got, want in zip(train(tx, params, grads), train(theirs, params, grads), strict=True):
        close(got, want, rtol=1e-5)


def test_adafactor_is_that_of_optax():
    params, grads = tree(0), [tree(1), tree(2)]
    args = {"min_dim_size_to_factor": 32, "decay_rate": 0.7}
    theirs = optax.adafactor(0.1, multiply_by_parameter_scale=False, **args)
    got = train(make("adafactor", lr=0.1, args=args), params, grads)
    for a, b in zip(got, train(theirs, params, grads), strict=True):
        close(a, b, rtol=1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_by_hand(nesterov):
    params, grads = tree(0), [tree(1), tree(2), tree(3)]
    tx = make("momentum", lr=0.1, args={"momentum": 0.8, "nesterov": nesterov})
    trace = dict.fromkeys(params, 0.0)
    for grad, after in zip(grads, train(tx, params, grads), strict=True):
        trace = {n: 0.8 * trace[n] + grad[n] for n in params}
        step = {n: grad[n] + 0.8 * trace[n] if nesterov else trace[n] for n in params}
        params = {n: params[n] - 0.1 * step[n] for n in params}
        close(after, params, rtol=1e-5)


def test_multipliers_scale_adam_after_normalisation():
    params, grad = tree(0), tree(1)
    tenth = {**dict.fromkeys(SHAPES, 1.0), "llm/w": 0.1}
    [got] = train(make("adam", lr=0.01, multipliers=tenth), params, [grad])
    steps = {n: np.abs(np.asarray(got[n] - params[n])) for n in params}
    np.testing.assert_allclose(steps["llm/w"], 0.001, rtol=2e-3)  # |first step of Adam| = lr
    np.testing.assert_allclose(steps["img/head/kernel"], 0.01, rtol=2e-3)


def test_clipping_by_the_global_norm():
    params, grad = tree(0), tree(1)
    norm = np.sqrt(sum(np.square(np.asarray(g)).sum() for g in grad.values()))
    assert norm > 10
    [got] = train(make(grad_clip_norm=1.0), params, [grad])
    close(got, {n: params[n] - grad[n] / norm for n in params}, rtol=1e-5)
    [got] = train(make(grad_clip_norm=float(norm) * 1.01), params, [grad])
    close(got, {n: params[n] - grad[n] for n in params}, rtol=1e-5)


def test_clipping_comes_before_the_moments():
    params, grads = tree(0), [tree(1), tree(2)]
    tx = make("momentum", grad_clip_norm=1.0, args={"momentum": 0.5})
    first, second = ({n: x / optax.global_norm(g) for n, x in g.items()} for g in grads)
    _, got = train(tx, params, grads)
    close(got, {n: params[n] - 1.5 * first[n] - second[n] for n in params}, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("sgd", {}),
        ("adam", {}),
        ("adam", {"mu_dtype": "float32"}),
        ("adamw", {}),
        ("adafactor", {"momentum": 0.9}),
        ("momentum", {}),
        ("momentum", {"mu_dtype": "float32"}),
    ],
)
def test_dtypes_stay(name, args):
    """Half-precision parameters: a step's output must be its next input."""
    tx = make(name, lr=0.1, args=args, weight_decay=0.1, grad_clip_norm=1.0)
    params, grad = tree(0, dtype=jnp.bfloat16), tree(1, dtype=jnp.bfloat16)
    state = jax.eval_shape(tx.init, params)
    after, new, _ = jax.eval_shape(functools.partial(apply_optimizer, tx), grad, state, params)

    def types(t):
        return jax.tree.map(lambda x: str(x.dtype), t)

    assert types(after) == types(params)
    assert types(new) == types(state)


def test_moments_can_be_kept_in_another_dtype():
    for name in ("adam", "momentum"):
        state = make(name, args={"mu_dtype": "bfloat16"}).init(tree(0))
        assert "bfloat16" in {str(x.dtype) for x in jax.tree.leaves(state)}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"name": "adamx"}, r"optimizer.name: 'adamx' is not .*did you mean 'adam'"),
        ({"name": "adam", "args": {"beta2": 0.9}}, r"optimizer.args.*beta2"),
        ({"name": "sgd", "args": {"momentum": 0.9}}, r"optimizer.args.*'sgd'"),
        ({"decay_rules": (("img/.*", 1.0),)}, r"optimizer.decay_rules: no rule matches 'llm/w'"),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(UserError, match=message):
        make(**kwargs)


@pytest.mark.parametrize("name", ["sgd", "adam", "adafactor"])
def test_create_state(name):
    mesh = sharding.make_mesh()
    everywhere = sharding.replicated(mesh)
    params = jax.device_put(tree(0), everywhere)
    state = create_state(params, make(name), mesh, seed=5)
    assert int(state.step) == 0 and state.step.dtype == jnp.int32
    np.testing.assert_array_equal(state.key, jax.random.key_data(jax.random.key(5)))
    for x in jax.tree.leaves(state):
        assert x.sharding.is_equivalent_to(everywhere, x.ndim)
