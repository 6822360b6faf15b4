"""Quantized weights against QLoRA's formulas in numpy, and models that run on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm
from tiny_model import batch, make, params, quick_jit

from pgjax.errors import UserError
from pgjax.models.quantized import BLOCK, GROUP, NF4, check_kind, dequantize, fits, quantize


def test_levels_are_the_quantiles_of_the_paper():
    """Appendix E: 8 quantiles below zero, 9 above, zero once, scaled to -1..1."""
    offset = 0.5 * (1 / 32 + 1 / 30)  # of the outermost quantile from the edge
    above = norm.ppf(np.linspace(1 - offset, 0.5, 9)[:-1])
    below = -norm.ppf(np.linspace(1 - offset, 0.5, 8)[:-1])
    levels = np.sort(np.concatenate([below, [0.0], above]))
    np.testing.assert_allclose(NF4, levels / levels.max(), atol=1e-6)


def by_hand(x, kind):
    """(what comes back, scales) of one layer, block by block."""
    blocks = x.astype(np.float64).reshape(-1, BLOCK)
    absmax = np.abs(blocks).max(axis=1)
    mean = absmax.mean()
    scales = []
    for start in range(0, len(absmax), GROUP):
        deviation = absmax[start : start + GROUP] - mean
        step = np.abs(deviation).max() / 127
        scales += [np.round(d / step) * step + mean if step else mean for d in deviation]
    levels = NF4 if kind == "nf4" else np.arange(-127, 128) / 127
    out = [
        levels[np.abs(b[:, None] / s - levels).argmin(axis=1)] * s
        for b, s in zip(blocks, scales, strict=True)
    ]
    return np.array(out).reshape(x.shape), np.array(scales), absmax


@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.parametrize("shape", [(8, 64), (3, 50, 128), (GROUP + 1, BLOCK)])
def test_quantizes_as_by_hand(kind, shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    q = quick_jit(quantize, static_argnames="kind")(jnp.asarray(x), kind=kind)
    got = np.asarray(dequantize(q, jnp.float32))
    want, scales, absmax = by_hand(x, kind)
    wrong = np.abs(got - want) > 1e-5
    assert wrong.mean() < 1e-3  # a value halfway between two levels may fall to either
    # Scales in 8 bits are within half a step of what they stand for.
    step = np.abs(absmax - absmax.mean()).max() / 127
    assert np.abs(scales - absmax).max() <= step
    error = np.sqrt(np.mean((got - x) ** 2) / np.mean(x**2))
    assert error < {"nf4": 0.1, "int8": 0.01}[kind]


def test_size():
    x = jnp.ones((2048, 2048))
    bits = {kind: 8 * quantize(x, kind).nbytes / x.size for kind in ("nf4", "int8")}
    assert bits["nf4"] == pytest.approx(4 + 8 / BLOCK, abs=0.01)  # 4.127 in the paper
    assert bits["int8"] == pytest.approx(8 + 8 / BLOCK, abs=0.01)


def test_zeros_and_equal_blocks_survive():
    for x in (np.zeros((4, 64)), np.ones((4, 64)), np.repeat([[0.0], [3.0]], 64, axis=1)):
        for kind in ("nf4", "int8"):
            q = quantize(jnp.asarray(x, jnp.float32), kind)
            np.testing.assert_allclose(dequantize(q, jnp.float32), x, atol=0.02)


def test_what_can_be_quantized():
    with pytest.raises(UserError, match=r"quantize is 'fp4', expected one of \('nf4', 'int8'\)"):
        check_kind("fp4")
    assert fits((18, 8, 256)) and not fits((18, 63)) and not fits((18, 3, 21))


QUANTIZED = ("attn", "mlp")


def quantized_tree(kind):
    """The tiny model with quantized matrices, and the float model that these stand for."""
    tree = params()
    layers = dict(tree["llm"]["layers"])
    floats = dict(layers)
    for group in QUANTIZED:
        small, back = {}, {}
        for name, x in flat(layers[group]).items():
            parts = [quantize(layer, kind) for layer in x]
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


@pytest.mark.parametrize("kind", ["nf4", "int8"])
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


def test_gradients_reach_the_input_through_quantized_weights():
    """What QLoRA needs: the base has no gradient, what is below it has."""
    model = make()
    small, floats = quantized_tree("nf4")
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
