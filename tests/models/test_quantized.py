"""Quantized weights against QLoRA's formulas in numpy, and models that run on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm
from tiny_model import batch, make, params, quick_jit

from pgjax.errors import UserError
from pgjax.loading.quantize_on_load import summed_axes
from pgjax.models.quantized import (
    BLOCK,
    GROUP,
    KINDS,
    NF4,
    check_kind,
    dequantize,
    fits,
    quantize,
)
from pgjax.models.rows import Rows, from_rows, products, sums, times, to_rows


def test_levels_are_the_quantiles_of_the_paper():
    """Appendix E: 8 quantiles below zero, 9 above, zero once, scaled to -1..1."""
    offset = 0.5 * (1 / 32 + 1 / 30)  # of the outermost quantile from the edge
    above = norm.ppf(np.linspace(1 - offset, 0.5, 9)[:-1])
    below = -norm.ppf(np.linspace(1 - offset, 0.5, 8)[:-1])
    levels = np.sort(np.concatenate([below, [0.0], above]))
    np.testing.assert_allclose(NF4, levels / levels.max(), atol=1e-6)


def nf4_by_hand(x):
    """(what comes back, scales, largest magnitudes) of one layer, block by block."""
    blocks = x.astype(np.float64).reshape(-1, BLOCK)
    absmax = np.abs(blocks).max(axis=1)
    mean = absmax.mean()
    scales = []
    for start in range(0, len(absmax), GROUP):
        deviation = absmax[start : start + GROUP] - mean
        step = np.abs(deviation).max() / 127
        scales += [np.round(d / step) * step + mean if step else mean for d in deviation]
    out = [
        NF4[np.abs(b[:, None] / s - NF4).argmin(axis=1)] * s
        for b, s in zip(blocks, scales, strict=True)
    ]
    return np.array(out).reshape(x.shape), np.array(scales), absmax


def int8_by_hand(x, summed):
    """255 levels between ± the largest magnitude of an output channel."""
    scale = np.abs(x).max(axis=summed, keepdims=True).astype(np.float64) / 127
    return np.round(x / scale) * scale


def int4_by_hand(x, summed):
    """Levels -8..7 of an eighth of the largest of 64 in turn along what is summed."""
    rows = np.moveaxis(x, summed, range(-len(summed), 0))
    groups = rows.reshape(-1, BLOCK).astype(np.float64)
    largest = groups[np.arange(len(groups)), np.abs(groups).argmax(axis=1)]
    scale = np.asarray(jnp.asarray(-largest / 8, jnp.bfloat16), np.float64)[:, None]
    back = (np.clip(np.round(groups / scale), -8, 7) * scale).reshape(rows.shape)
    return np.moveaxis(back, range(-len(summed), 0), summed)


SHAPES = [
    ((256, 64), (0,)),
    ((3, 128, 192), (1,)),
    ((2, 64, 64), (0, 1)),
    ((GROUP + 2, BLOCK), (1,)),
    ((4, 128, 24), (1,)),  # blocks of NF4 reach over several rows
]


def normal(shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


quantized = quick_jit(quantize, static_argnames=("kind", "summed"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "summed"), SHAPES)
def test_quantizes_as_by_hand(kind, shape, summed):
    x = normal(shape)
    if kind == "int4" and np.prod([shape[a] for a in summed]) % (2 * BLOCK):
        pytest.skip("shorter groups, which is another test")
    q = quantized(jnp.asarray(x), kind=kind, summed=summed)
    got = np.asarray(dequantize(q, jnp.float32))
    assert q.shape == shape and got.shape == shape
    if kind == "nf4":
        want, scales, absmax = nf4_by_hand(x)
        # Scales in 8 bits are within half a step of what they stand for.
        step = np.abs(absmax - absmax.mean()).max() / 127
        assert np.abs(scales - absmax).max() <= step
    else:
        want = {"int8": int8_by_hand, "int4": int4_by_hand}[kind](x, summed)
    wrong = np.abs(got - want) > 1e-5
    assert wrong.mean() < 1e-3  # a value halfway between two levels may fall to either
    error = np.sqrt(np.mean((got - x) ** 2) / np.mean(x**2))
    assert error < {"nf4": 0.1, "int4": 0.12, "int8": 0.012}[kind]


def test_short_rows_have_shorter_groups():
    q = quantized(jnp.asarray(normal((96, 8))), kind="int4", summed=(0,))
    assert q.scales.shape == (8, 6) and q.codes.shape == (8, 48)


def test_size():
    x = jnp.ones((2048, 2048))
    bits = {kind: 8 * quantize(x, kind, (0,)).nbytes / x.size for kind in KINDS}
    assert bits["nf4"] == pytest.approx(4 + 8 / BLOCK, abs=0.01)  # 4.127 in the paper
    assert bits["int4"] == pytest.approx(4 + 16 / BLOCK, abs=0.01)
    assert bits["int8"] == pytest.approx(8 + 32 / 2048, abs=0.01)


def test_zeros_and_equal_blocks_survive():
    for x in (np.zeros((4, 64)), np.ones((4, 64)), np.repeat([[0.0], [3.0]], 64, axis=1)):
        for kind in KINDS:
            q = quantize(jnp.asarray(x, jnp.float32), kind, (1,))
            np.testing.assert_allclose(dequantize(q, jnp.float32), x, atol=0.02)


def test_what_can_be_quantized():
    with pytest.raises(UserError, match=r"quantize is 'fp4', expected one of \('int8', 'int4'"):
        check_kind("fp4")
    assert fits((8, 256), (0,)) and not fits((63,), (0,)) and not fits((3, 21), (0,))
    assert not fits((3, 64), (0,))  # no two halves


@pytest.mark.parametrize("summed", [(0,), (1,), (0, 1), (2,)])
def test_rows_and_back(summed):
    x = jnp.arange(24.0).reshape(2, 3, 4)
    rows = to_rows(x, summed)
    assert rows.shape[1] == np.prod([x.shape[a] for a in summed])
    np.testing.assert_array_equal(from_rows(rows, x.shape, summed), x)


@pytest.mark.parametrize("kind", [None, *KINDS])
@pytest.mark.parametrize("rows", [1, 3, 9])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_are_those_of_the_floats(kind, rows, dtype):
    """By matrix products, and by the sums that a GPU takes for a token."""
    w = jnp.asarray(normal((128, 2, 64)))
    q = quantized(w, kind=kind, summed=(0,)) if kind else Rows(to_rows(w, (0,)), w.shape, (0,))
    wide = np.asarray(dequantize(q, jnp.float32) if kind else w)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(rows, 128)), dtype)
    want = np.einsum("rk,knh->rnh", np.asarray(x, np.float32), wide).reshape(rows, -1)
    close = {"rtol": 1e-5, "atol": 1e-4} if dtype == "float32" else {"rtol": 2e-2, "atol": 0.2}
    for f in (times, sums, lambda x, q: jnp.concatenate(products(x, q, parts=2), axis=1)):
        y = quick_jit(f)(x, q)
        assert y.dtype == dtype
        np.testing.assert_allclose(np.asarray(y, np.float32), want, **close)


QUANTIZED = ("attn", "mlp")


def quantized_tree(kind):
    """The tiny model with quantized matrices, and the float model that these stand for."""
    tree = params()
    layers = dict(tree["llm"]["layers"])
    floats = dict(layers)
    for group in QUANTIZED:
        small, back = {}, {}
        for name, x in flat(layers[group]).items():
            summed = summed_axes("llm/layers/" + "/".join(filter(None, (group, *name))))
            parts = [quantize(layer, kind, summed) for layer in x]
            small[name] = jax.tree.map(lambda *p: jnp.stack(p), *parts)
            back[name] = jnp.stack([dequantize(p, jnp.float32) for p in parts])
        layers[group], floats[group] = nest(small), nest(back)
    return tuple({**tree, "llm": {**tree["llm"], "layers": x}} for x in (layers, floats))


def flat(tree):
    return {
        (k, j): v
        for k, x in tree.items()
        for j, v in (x.items() if isinstance(x, dict) else [("", x)])
    }


def nest(values):
    tree = {}
    for (k, j), x in values.items():
        if j:
            tree.setdefault(k, {})[j] = x
        else:
            tree[k] = x
    return tree


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_runs_on_quantized_weights(kind):
    """Forward, prefill and extend equal those of the float weights that the codes stand for."""
    model = make()
    small, floats = quantized_tree(kind)
    image, text, valid = batch([5, 3], 5)
    mask = np.zeros_like(text)

    @quick_jit
    def run(p):
        hidden = model.apply({"params": p}, image, text, mask, valid)
        logits, cache = model.apply(
            {"params": p}, image, text, mask, valid,
            max_new_tokens=2, cache_dtype="float32", method="prefill",
        )  # fmt: skip
        more, _ = model.apply({"params": p}, jnp.int32([3, 4]), cache, method="extend")
        return hidden, logits, more

    for got, want in zip(run(small), run(floats), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_input_through_quantized_weights(kind):
    """What QLoRA needs: the base has no gradient, what is below it has."""
    model = make()
    small, floats = quantized_tree(kind)
    image, text, _ = batch([5, 5], 5)

    def loss(table, tree):
        llm = {**tree["llm"], "embedder": {"input_embedding": table}}
        return jnp.sum(
            jnp.square(model.apply({"params": {**tree, "llm": llm}}, image, text, text * 0))
        )

    table = params()["llm"]["embedder"]["input_embedding"]
    got, want = (quick_jit(jax.grad(loss))(table, tree) for tree in (small, floats))
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)
    assert np.abs(want).max() > 1e-2
