"""The training step: accumulation, dropout, frozen leaves, counting."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.models.loss import shift, supervised_xent
from pgjax.training.optimizer import make_optimizer
from pgjax.training.state import LossScale, TrainState
from pgjax.training.step import make_train_step

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

ROWS, LENGTH, WIDTH, VOCAB = 8, 7, 8, 37


@functools.cache
def parameters():
    """(trainable, frozen) of a model of one layer, which sees the image's mean and the text."""
    rng = np.random.default_rng(1)
    shapes = {"llm/w": (WIDTH, WIDTH), "llm/b": (WIDTH,), "img/w": (3, WIDTH), "e": (VOCAB, WIDTH)}
    flat = {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}
    return {n: flat.pop(n) for n in ("llm/w", "llm/b")}, flat


def hidden_states(trainable, frozen, batch, text):
    """[B,T,D]."""
    seen = batch["image"].mean(axis=(1, 2)) @ frozen["img/w"]
    x = seen[:, None] + frozen["e"][text]
    y = x.astype(trainable["llm/w"].dtype) @ trainable["llm/w"] + trainable["llm/b"][None, None]
    return jnp.tanh(y).astype(jnp.float32)


def loss(trainable, frozen, batch, row_weight, key):
    """As `pgjax.models.loss.make_loss` makes it, of this smaller model."""
    text, _, targets, supervised = shift(batch["text"], batch["mask_ar"], batch["mask_loss"])
    hidden = hidden_states(trainable, frozen, batch, text)
    if key is not None:
        hidden = hidden * jax.random.bernoulli(key, 0.5, hidden.shape).astype(jnp.float32)
    return supervised_xent(hidden, frozen["e"], targets, supervised, row_weight, 0.0, 3)


def batch():
    rng = np.random.default_rng(0)
    start = rng.integers(1, LENGTH, ROWS)  # rows have different numbers of supervised tokens
    suffix = (np.arange(LENGTH) >= start[:, None]).astype(np.int32)
    return {
        "image": jnp.asarray(rng.uniform(-1, 1, (ROWS, 8, 8, 3)), jnp.float32),
        "text": jnp.asarray(rng.integers(3, VOCAB, (ROWS, LENGTH)), jnp.int32),
        "mask_ar": jnp.asarray(suffix),
        "mask_loss": jnp.asarray(suffix),
    }


@functools.cache
def make(accumulate=1, dropout=False, name="sgd", dtype="float32", args=(), **kwargs):
    """(compiled step, fresh state, frozen parameters)."""
    trainable, frozen = parameters()
    trainable = {n: x.astype(dtype) for n, x in trainable.items()}
    tx = make_optimizer(
        name=name, lr=0.5, args=dict(args), schedule=lambda i: jnp.float32(1),
        names=[*trainable, *frozen], lr_multipliers=dict.fromkeys(trainable, 1.0),
        decay_rules=[(".*", 0.0)], **kwargs,
    )  # fmt: skip
    step = make_train_step(
        loss, tx, lambda i: 0.5 * (i + 1).astype(jnp.float32), accumulate=accumulate,
        dropout=dropout,
    )  # fmt: skip
    key = jax.random.key_data(jax.random.key(3))
    return quick_jit(step), TrainState(trainable, tx.init(trainable), jnp.int32(0), key), frozen


@functools.cache
def whole():
    """State and metrics after one step of plain SGD."""
    step, state, frozen = make()
    return step(state, frozen, batch())


def test_one_step_is_gradient_descent_on_the_mean_over_rows():
    state, metrics = whole()
    trainable, frozen = parameters()
    b = batch()

    def mean_loss(trainable):
        """From all logits, one row after another."""
        hidden = hidden_states(trainable, frozen, b, b["text"][:, :-1])
        logp = jax.nn.log_softmax(hidden @ frozen["e"].T)
        xent = -jnp.take_along_axis(logp, b["text"][:, 1:, None], axis=-1)[:, :, 0]
        rows = [
            jnp.mean(xent[i][np.flatnonzero(np.asarray(b["mask_loss"])[i, 1:])])
            for i in range(ROWS)
        ]
        return sum(rows) / ROWS

    value, grads = quick_jit(jax.value_and_grad(mean_loss))(trainable)
    assert float(metrics["loss"]) == pytest.approx(float(value), rel=1e-5)
    for name, x in trainable.items():
        assert np.abs(grads[name]).max() > 1e-3
        np.testing.assert_allclose(state.params[name], x - 0.5 * grads[name], atol=1e-6)

    def norm(tree):
        return np.sqrt(sum(np.square(np.asarray(x, np.float64)).sum() for x in tree.values()))

    assert float(metrics["l2_grads"]) == pytest.approx(norm(grads), rel=1e-4)
    assert float(metrics["l2_updates"]) == pytest.approx(0.5 * norm(grads), rel=1e-4)
    assert float(metrics["l2_params"]) == pytest.approx(norm(state.params), rel=1e-4)
    assert float(metrics["lr_factor"]) == 0.5


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_gives_the_same_update(accumulate):
    """Though the parts have different numbers of supervised tokens."""
    want, want_metrics = whole()
    step, state, frozen = make(accumulate)
    got, metrics = step(state, frozen, batch())
    for name, x in want.params.items():
        np.testing.assert_allclose(got.params[name], x, atol=1e-6)
    for name, x in want_metrics.items():
        assert float(metrics[name]) == pytest.approx(float(x), rel=1e-5), name


@pytest.mark.parametrize("accumulate", [1, 4])
def test_rewarded_answers_are_one_step_of_policy_gradient(accumulate):
    """The mean over the tokens of all answers of -advantage · log π, written out."""
    trainable, frozen = parameters()
    b = batch() | {"advantage": jnp.asarray([1.5, -0.5, 0, 2, -1, -1, 0.25, -2], jnp.float32)}

    def surrogate(trainable):
        hidden = hidden_states(trainable, frozen, b, b["text"][:, :-1])
        logp = jax.nn.log_softmax(hidden @ frozen["e"].T)
        logp = jnp.take_along_axis(logp, b["text"][:, 1:, None], axis=-1)[:, :, 0]
        own = b["mask_loss"][:, 1:].astype(jnp.float32)
        return -(b["advantage"] * (logp * own).sum(axis=1)).sum() / own.sum()

    value, grads = quick_jit(jax.value_and_grad(surrogate))(trainable)
    step, state, frozen = make(accumulate)
    state, metrics = step(state, frozen, b)
    assert float(metrics["loss"]) == pytest.approx(float(value), rel=1e-5)
    for name, x in trainable.items():
        assert np.abs(grads[name]).max() > 1e-3
        np.testing.assert_allclose(state.params[name], x - 0.5 * grads[name], atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    ("name", "args"),
    [("adam", ()), ("momentum", ()), ("adafactor", (("momentum", 0.9),)), ("sgd", ())],
)
def test_a_state_keeps_its_dtypes(name, args, accumulate):
    """A compiled step takes its own output, also with half-precision trainable parameters."""
    step, state, frozen = make(
        accumulate, name=name, args=args, dtype="bfloat16", grad_clip_norm=1.0
    )
    after, _ = jax.eval_shape(step, state, frozen, batch())
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


def test_frozen_leaves_are_no_part_of_it():
    step, state, frozen = make(name="adam")
    before = {n: np.array(x) for n, x in frozen.items()}
    after, _ = step(state, frozen, batch())
    assert set(after.params) == set(parameters()[0]) and len(after.params) == 2
    for name, x in before.items():
        np.testing.assert_array_equal(frozen[name], x)
    moments = sum(x.size for x in jax.tree.leaves(after.opt_state) if x.ndim)
    assert moments == 2 * sum(x.size for x in after.params.values())


def test_steps_are_counted():
    step, state, frozen = make()
    for i in range(3):
        assert int(state.step) == i
        key = np.array(state.key)
        state, metrics = step(state, frozen, batch())
        assert float(metrics["lr_factor"]) == 0.5 * (i + 1)
        np.testing.assert_array_equal(state.key, key)
    assert int(state.step) == 3 and state.step.dtype == jnp.int32


def test_dropout_changes_with_the_step_and_is_reproducible():
    step, state, frozen = make(accumulate=2, dropout=True)

    def loss(at, seed=3):
        key = jax.random.key_data(jax.random.key(seed))
        return float(step(state.replace(step=jnp.int32(at), key=key), frozen, batch())[1]["loss"])

    assert loss(0) == loss(0)
    assert loss(7) == loss(7)
    assert len({loss(0), loss(1), loss(7), loss(0, seed=4), float(whole()[1]["loss"])}) == 5


def test_dropout_draws_anew_for_each_part():
    """With one key for both, two parts of the same rows would have the loss of one of them."""
    in_parts, state, frozen = make(accumulate=2, dropout=True)
    at_once, same_state, _ = make(dropout=True)
    rows = {k: v[:4] for k, v in batch().items()}
    twice = {k: jnp.repeat(v, 2, axis=0) for k, v in rows.items()}  # part i takes rows i, i+2, …
    both = float(in_parts(state, frozen, twice)[1]["loss"])
    one = float(at_once(same_state, frozen, rows)[1]["loss"])
    assert np.isfinite(both) and both != pytest.approx(one, rel=1e-6)


def scaled(value):
    """(step, state with a loss scale, frozen parameters)."""
    step, state, frozen = make(name="momentum")
    scale = LossScale(jnp.float32(value), jnp.int32(999), jnp.int32(3))
    return step, state.replace(scale=scale), frozen


def test_a_loss_scale_changes_no_update():
    step, state, frozen = make(name="momentum")
    want, want_metrics = step(state, frozen, batch())
    step, state, frozen = scaled(2.0**12)
    got, metrics = step(state, frozen, batch())
    for name, x in want.params.items():
        np.testing.assert_allclose(got.params[name], x, rtol=1e-5, atol=1e-7)
    for name, x in want_metrics.items():
        assert float(metrics[name]) == pytest.approx(float(x), rel=1e-5), name
    # It was the thousandth in a row that was finite.
    assert (float(got.scale.value), int(got.scale.good), int(got.scale.skipped)) == (2.0**13, 0, 0)


def test_an_update_that_overflows_is_skipped_and_halves_the_scale():
    step, state, frozen = scaled(2.0**127)  # times a loss of about 4: more than float32 holds
    got, metrics = step(state, frozen, batch())
    assert not np.isfinite(metrics["loss"])
    for before, after in zip(
        jax.tree.leaves((state.params, state.opt_state)),
        jax.tree.leaves((got.params, got.opt_state)),
        strict=True,
    ):
        np.testing.assert_array_equal(before, after)
    assert (float(got.scale.value), int(got.scale.good), int(got.scale.skipped)) == (2.0**126, 0, 4)
    assert int(got.step) == 1
