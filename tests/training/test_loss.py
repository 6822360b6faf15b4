"""The chunked loss against the same loss from all logits at once."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import GOLDEN

from pgjax.models.loss import make_loss, shift, supervised_xent
from pgjax.models.paligemma import make_model

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

B, T, D, V = 4, 7, 8, 29


def inputs(seed=0, size=1.0):
    rng = np.random.default_rng(seed)
    hidden = jnp.asarray(rng.normal(size=(B, T, D)) * size, jnp.float32)
    table = jnp.asarray(rng.normal(size=(V, D)) * size, jnp.float32)
    targets = jnp.asarray(rng.integers(0, V, (B, T)), jnp.int32)
    supervised = rng.random((B, T)) < 0.5
    supervised[1] = False  # a row without any
    supervised[2] = True  # one with nothing else
    supervised[3] = np.arange(T) == 4  # and one with a single one
    weight = jnp.asarray(rng.random(B), jnp.float32)
    return hidden, table, targets, jnp.asarray(supervised), weight


def from_all_logits(hidden, table, targets, supervised, weight, smoothing):
    """The definition, through optax and a full array of logits."""
    logits = jnp.einsum("BTD,VD->BTV", hidden, table)
    hot = jax.nn.one_hot(targets, V)
    labels = hot * (1 - smoothing) + (1 - hot) * (smoothing / (V - 1))
    xent = jnp.where(supervised, optax.softmax_cross_entropy(logits, labels), 0.0)
    count = jnp.maximum(supervised.sum(axis=1), 1).astype(jnp.float32)
    return jnp.sum(weight * xent.sum(axis=1) / count), xent


def value_and_gradients(loss):
    """((loss, token losses), gradients of hidden states and embedding)."""
    return quick_jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(*inputs())


@functools.cache
def reference(smoothing):
    return value_and_gradients(lambda *args: from_all_logits(*args, smoothing))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk", [1, 3, T, 50])
def test_equals_the_loss_from_all_logits(chunk, smoothing):
    """Loss, token losses, and gradients of hidden states and embedding."""
    (want, want_tokens), want_grads = reference(smoothing)
    (got, got_tokens), got_grads = value_and_gradients(
        lambda *args: supervised_xent(*args, smoothing, chunk)
    )
    assert got.dtype == got_tokens.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=1e-5)
    np.testing.assert_allclose(got_tokens, want_tokens, rtol=1e-5, atol=1e-5)
    for g, w in zip(got_grads, want_grads, strict=True):
        assert np.abs(w).max() > 1e-2
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [V, 48])  # 48 rows are cast in 16 blocks, 29 at once
def test_a_narrower_embedding_is_widened_in_blocks(rows):
    """And multiplies in the hidden states' dtype, as it would if cast whole."""
    hidden, _, targets, supervised, weight = inputs()
    table = jnp.asarray(np.random.default_rng(1).normal(size=(rows, D)), jnp.float16)

    @quick_jit
    def run(hidden, table):
        def loss(*args):
            return supervised_xent(*args, targets, supervised, weight, 0.1, 3)

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(hidden, table)

    (got, got_tokens), (got_dh, got_de) = run(hidden, table)
    (want, want_tokens), (want_dh, want_de) = run(hidden, table.astype(jnp.float32))
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose(got_tokens, want_tokens, rtol=1e-6)
    np.testing.assert_allclose(got_dh, want_dh, rtol=1e-5, atol=1e-7)
    assert got_de.dtype == jnp.float16
    np.testing.assert_allclose(got_de.astype(jnp.float32), want_de, rtol=1e-3, atol=1e-6)


def test_by_hand_in_numpy():
    hidden, table, targets, supervised, weight = map(np.asarray, inputs(1))
    want = 0.0
    for b in range(B):
        losses = []
        for t in range(T):
            if supervised[b, t]:
                logits = table.astype(np.float64) @ hidden[b, t]
                logp = logits - math.log(np.exp(logits).sum())
                y = targets[b, t]
                rest = np.delete(logp, y)
                losses.append(-0.8 * logp[y] - 0.2 * rest.mean())
        if losses:
            want += weight[b] * np.mean(losses)
    got, _ = quick_jit(supervised_xent, static_argnums=(5, 6))(*inputs(1), 0.2, 3)
    assert float(got) == pytest.approx(want, rel=1e-5)


def test_rows_without_supervised_tokens():
    hidden, table, targets, supervised, weight = inputs()
    nothing = jnp.zeros_like(supervised)
    run = quick_jit(
        jax.value_and_grad(lambda h, s: supervised_xent(h, table, targets, s, weight, 0.1, 3)[0])
    )
    value, grad = run(hidden, nothing)
    assert value == 0.0 and not np.asarray(grad).any()
    value, grad = run(hidden, supervised)
    assert value > 0
    grad = np.abs(np.asarray(grad)).sum(axis=-1)
    np.testing.assert_array_equal(grad > 0, supervised)  # row 1 among the zeros


def test_only_supervised_positions_count():
    hidden, table, targets, supervised, weight = inputs()
    run = quick_jit(lambda h, y: supervised_xent(h, table, y, supervised, weight, 0.0, 3))
    want, _ = run(hidden, targets)
    got, _ = run(jnp.where(supervised[:, :, None], hidden, 1e9), jnp.where(supervised, targets, 5))
    assert got == want


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_large_logits_stay_finite(dtype):
    hidden, table, targets, supervised, weight = inputs(size=20.0)
    args = hidden.astype(dtype), table.astype(dtype)
    logits = jnp.einsum("BTD,VD->BTV", hidden, table)
    assert logits.max() > 1000  # whose exponential overflows float32
    loss = jax.value_and_grad(
        lambda h, e: supervised_xent(h, e, targets, supervised, weight, 0.1, 3),
        argnums=(0, 1),
        has_aux=True,
    )
    (got, _), grads = quick_jit(loss)(*args)
    want, _ = from_all_logits(hidden, table, targets, supervised, weight, 0.1)
    assert float(got) == pytest.approx(float(want), rel={"float32": 1e-5}.get(dtype, 2e-2))
    for grad, x in zip(grads, args, strict=True):
        assert grad.dtype == x.dtype
        assert np.isfinite(np.asarray(grad, np.float32)).all()


def test_table_in_another_dtype_than_the_hidden_states():
    """Frozen parameters are in half precision; computed is in the hidden states' dtype."""
    hidden, table, *rest = inputs()
    table = table.astype(jnp.bfloat16)
    loss = quick_jit(
        jax.value_and_grad(lambda h, e: supervised_xent(h, e, *rest, 0.0, 3)[0], argnums=(0, 1))
    )
    value, (dh, de) = loss(hidden, table)
    want, _ = from_all_logits(hidden, table.astype(jnp.float32), *rest, 0.0)
    assert float(value) == pytest.approx(float(want), rel=1e-5)
    assert dh.dtype == jnp.float32 and de.dtype == jnp.bfloat16


def test_the_gradient_scales_with_the_cotangent():
    hidden, table, *rest = inputs()

    @quick_jit
    def gradients(factor):
        loss = lambda h, e: factor * supervised_xent(h, e, *rest, 0.0, 3)[0]  # noqa: E731
        return jax.grad(loss, argnums=(0, 1))(hidden, table)

    for one, three in zip(gradients(1.0), gradients(3.0), strict=True):
        np.testing.assert_allclose(three, 3 * np.asarray(one), rtol=1e-6)


def gradient(argnums):
    return jax.grad(lambda *a: supervised_xent(*a, 0.0, 3)[0], argnums=argnums)


def computed(jaxpr):
    """Shapes of all results in a program, before XLA takes out what it can prove unused."""
    shapes = set()
    for eqn in jaxpr.eqns:
        shapes |= {v.aval.shape for v in eqn.outvars}
        for value in jax.tree.leaves(eqn.params, is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                shapes |= computed(inner)
    return shapes


def made(argnums):
    """Shapes of all values in the compiled gradient."""
    text = quick_jit(gradient(argnums)).lower(*inputs()).compile().as_text()
    # Definitions, not parameters: `%name = f32[29,8]{1,0} opcode(…)`.
    pattern = r"= f32\[([\d,]+)\]\S* (?!parameter|bitcast|copy|get-tuple-element)"
    return {tuple(map(int, dims.split(","))) for dims in re.findall(pattern, text)}


def test_a_frozen_embedding_gets_no_gradient():
    """Not even one that is thrown away: nothing of its shape is computed."""
    assert (V, D) in computed(jax.make_jaxpr(gradient((0, 1)))(*inputs()).jaxpr)
    assert (V, D) not in computed(jax.make_jaxpr(gradient(0))(*inputs()).jaxpr)
    assert (V, D) in made((0, 1))
    assert (V, D) not in made(0)


def test_full_logits_never_exist():
    for shape in made((0, 1)):
        assert math.prod(shape) < B * T * V


def test_memory_is_less_than_half_of_that_of_full_logits():
    b, t, d, vocab = 4, 64, 16, 20_000
    shapes = ((b, t, d), (vocab, d), (b, t), (b, t), (b,))
    dtypes = (jnp.float32, jnp.float32, jnp.int32, jnp.bool_, jnp.float32)
    args = [jax.ShapeDtypeStruct(*x) for x in zip(shapes, dtypes, strict=True)]

    def plain(hidden, table, targets, supervised, weight):
        logp = jax.nn.log_softmax(jnp.einsum("BTD,VD->BTV", hidden, table))
        xent = -jnp.take_along_axis(logp, targets[:, :, None], axis=-1)[:, :, 0]
        return jnp.sum(weight * jnp.where(supervised, xent, 0.0).mean(axis=1))

    def temporary(loss):
        compiled = quick_jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(*args).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    full = temporary(plain)
    assert full > b * t * vocab * 4  # the logits
    assert temporary(lambda *a: supervised_xent(*a, 0.0, 8)[0]) < full / 2


def test_shift():
    text = jnp.arange(10, 20, dtype=jnp.int32).reshape(2, 5)
    mask_ar = jnp.asarray([[0, 0, 1, 1, 1]] * 2, jnp.int32)
    mask_loss = jnp.asarray([[0, 0, 1, 1, 0], [0, 0, 0, 0, 1]], jnp.int32)
    inputs_, ar, targets, supervised = shift(text, mask_ar, mask_loss)
    np.testing.assert_array_equal(inputs_, [[10, 11, 12, 13], [15, 16, 17, 18]])
    np.testing.assert_array_equal(ar, [[0, 0, 1, 1]] * 2)
    np.testing.assert_array_equal(targets, [[11, 12, 13, 14], [16, 17, 18, 19]])
    # The token at which the suffix starts is predicted from the last one of the prefix.
    np.testing.assert_array_equal(supervised, [[False, True, True, False], [False] * 3 + [True]])
    assert supervised.dtype == bool


def test_golden_loss_of_the_whole_model():
    """Loss and token losses that the reference gave, from its parameters."""
    spec = {
        "res": 56,
        "img": {"width": 48, "depth": 2, "mlp_dim": 104, "num_heads": 4},
        "llm": {
            "width": 64, "depth": 3, "mlp_dim": 136, "num_heads": 4, "num_kv_heads": 1,
            "head_dim": 24, "vocab_size": 1664,
        },
    }  # fmt: skip
    with np.load(GOLDEN / "train.npz") as t, np.load(GOLDEN / "params.npz") as p:
        flat = {name.removeprefix("params/"): jnp.asarray(x) for name, x in p.items()}
        batch = {k: jnp.asarray(t[k]) for k in ("image", "text", "mask_ar", "mask_loss")}
        loss = make_loss(make_model(spec), label_smoothing=0.1, chunk=5)
        names = sorted(flat)
        trainable = {n: flat[n] for n in names[::2]}  # the split makes no difference
        frozen = {n: flat[n] for n in names[1::2]}
        weight = jnp.full((5,), 0.2, jnp.float32)
        value, tokens = quick_jit(loss)(trainable, frozen, batch, weight, None)
        assert float(value) == pytest.approx(float(t["ls0.1/loss"]), rel=1e-5)
        supervised = t["mask_loss"][:, 1:] > 0
        want = np.where(supervised, -t["ls0.1/token_pplx"], 0.0)
        np.testing.assert_allclose(tokens, want, rtol=1e-4, atol=1e-5)
