"""Adapters: names and sizes, what they compute, when they drop, and on which weights they work."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import batch, make, params, quick_jit

from pgjax import trees
from pgjax.errors import UserError
from pgjax.loading.decode_layout import to_decode_layout
from pgjax.loading.quantize_on_load import matrix_kinds, summed_axes
from pgjax.models.lora import Lora, is_adapter, lora_config
from pgjax.models.loss import make_loss
from pgjax.models.paligemma import abstract_params, init_params, make_model
from pgjax.models.quantized import Quantized, dequantize, quantize

LORA = {"rank": 3, "alpha": 6.0}
GEMMA2 = {"post_norms": True, "attn_softcap": 1.5, "final_softcap": 2.0, "query_scale": 0.8}
DECODER = "llm/layers/(attn|mlp)/.*"


def shapes(model):
    return {n: x.shape for n, x in trees.flatten(nn.unbox(abstract_params(model))).items()}


@functools.cache
def adapters(gemma2=False):
    """Random ones for all matrices of the tiny model, and its parameters beside them."""
    rng = np.random.default_rng(1)
    model = make(lora=LORA, llm=GEMMA2 if gemma2 else {})
    flat = {} if gemma2 else trees.flatten(params())
    for name, shape in shapes(model).items():
        if name not in flat:
            flat[name] = jnp.asarray(rng.normal(size=shape) * 0.3, jnp.float32)
    return flat


def inputs():
    image, text, valid = batch([5, 3], 5)
    return image, text, np.zeros_like(text), valid


def hidden(model, flat):
    run = quick_jit(lambda p: model.apply({"params": trees.unflatten(p)}, *inputs()))
    return np.asarray(run(flat))


# Where a matrix's input and output axes are, after the axis of layers: what a linear layer of
# each projection would see.
MATRICES = {
    "llm/layers/attn/q_einsum/w": ("DR,RNH->NDH", ""),
    "llm/layers/attn/kv_einsum/w": ("CDR,CRKH->CKDH", "C"),
    "llm/layers/attn/attn_vec_einsum/w": ("NHR,RD->NHD", ""),
    "llm/layers/mlp/gating_einsum": ("CDR,CRF->CDF", "C"),
    "llm/layers/mlp/linear": ("FR,RD->FD", ""),
    "img/Transformer/encoderblock/MlpBlock_0/Dense_0/kernel": ("DR,RF->DF", ""),
    "img/Transformer/encoderblock/MlpBlock_0/Dense_1/kernel": ("FR,RD->FD", ""),
    **{
        f"img/Transformer/encoderblock/MultiHeadDotProductAttention_0/{name}/kernel": (eqn, "")
        for name, eqn in {
            "query": "DR,RNH->DNH", "key": "DR,RNH->DNH", "value": "DR,RNH->DNH",
            "out": "NHR,RD->NHD",
        }.items()
    },
}  # fmt: skip


def merged(flat, scale):
    """W + scale·A·B by numpy, for each matrix."""
    out = {name: x for name, x in flat.items() if not is_adapter(name)}
    for name, (eqn, _) in MATRICES.items():
        factors = [np.asarray(flat[f"{name}_lora_{f}"], np.float64) for f in "ab"]
        a, b, result = [f"L{part}" for part in eqn.replace("->", ",").split(",")]
        delta = np.einsum(f"{a},{b}->{result}", *factors)
        out[name] = jnp.asarray(np.asarray(out[name]) + scale * delta, jnp.float32)
    return out


@pytest.mark.parametrize("gemma2", [False, True])
def test_adapters_are_products_of_two_factors(gemma2):
    """Both towers, every matrix; the base alone is far from it."""
    llm = GEMMA2 if gemma2 else {}
    flat = adapters(gemma2)
    base = {n: x for n, x in flat.items() if not is_adapter(n)}
    assert {n.rsplit("_lora_")[0] for n in flat if is_adapter(n)} == set(MATRICES)
    got = hidden(make(lora=LORA, llm=llm), flat)
    want = hidden(make(llm=llm), merged(flat, 6.0 / 3))
    np.testing.assert_allclose(got, want, atol=2e-4)
    assert np.abs(got - hidden(make(llm=llm), base)).max() > 0.1


def test_the_scale_of_rslora():
    assert Lora(rank=4, alpha=6.0).scale == 1.5
    assert Lora(rank=4, alpha=6.0, rslora=True).scale == 3.0
    flat = adapters()
    got = hidden(make(lora={**LORA, "rslora": True}), flat)
    np.testing.assert_allclose(got, hidden(make(), merged(flat, 6.0 / 3**0.5)), atol=2e-4)


def test_adapters_begin_as_nothing():
    """B is zero, A uniform within ±1/√(inputs), each layer and matrix with values of its own."""
    model = make(lora=LORA)
    key = jax.random.key(0, impl="unsafe_rbg")
    flat = trees.flatten(quick_jit(lambda k: init_params(model, k))(key))
    first = {n: x for n, x in flat.items() if n.endswith("_lora_a")}
    assert len(first) == len(MATRICES)
    for name, x in first.items():
        assert not np.any(flat[name.removesuffix("a") + "b"]), name
        parts = MATRICES[name.removesuffix("_lora_a")][1]
        fan_in = np.prod(x.shape[1 + len(parts) : -1])
        assert 0.8 < np.abs(x).max() * fan_in**0.5 <= 1, name
        assert np.abs(np.mean(x)) < 0.2 * fan_in**-0.5, name
        assert not np.allclose(x[0], x[1]), name
        if parts:
            assert not np.allclose(x[:, 0], x[:, 1]), name
    base = {n: x for n, x in flat.items() if not is_adapter(n)}
    np.testing.assert_array_equal(hidden(model, flat), hidden(make(), base))


def test_rank_0_is_the_base():
    assert shapes(make(lora={"rank": 0, "targets": ".*"})) == shapes(make())
    assert make(lora={"rank": 0}).lora.rank == make().lora.rank


@pytest.mark.parametrize(
    ("targets", "count"),
    [
        (DECODER, 9_805_824),
        # What peft counts for q, k, v, o, gate, up and down by the names of their last part,
        # which the image tower shares for q, k and v: the figure of the published example.
        (f"{DECODER}|img/Transformer/.*/(query|key|value)/kernel", 11_298_816),
    ],
)
def test_published_number_of_parameters(targets, count):
    spec = {"res": 224, "img": {"variant": "So400m/14"}, "llm": {"variant": "gemma_2b"}}
    full = shapes(make_model({**spec, "lora": {"rank": 8, "targets": targets}}))
    sizes = {name: int(np.prod(x)) for name, x in full.items()}
    assert sum(n for name, n in sizes.items() if is_adapter(name)) == count
    assert sum(n for name, n in sizes.items() if not is_adapter(name)) == 2_923_335_408


def test_targets():
    model = make(lora={"rank": 2, "targets": r".*/q_einsum/w|.*/Dense_1/kernel"})
    names = {n.removesuffix("_lora_a") for n in shapes(model) if n.endswith("_lora_a")}
    assert names == {
        "llm/layers/attn/q_einsum/w",
        "img/Transformer/encoderblock/MlpBlock_0/Dense_1/kernel",
    }


def test_axes_follow_those_of_the_matrix():
    boxed = trees.flatten(abstract_params(make(lora=LORA)))
    want = {
        "llm/layers/attn/q_einsum/w": (("embed", None), (None, "heads", "head_dim")),
        "llm/layers/attn/attn_vec_einsum/w": (("heads", "head_dim", None), (None, "embed")),
        "llm/layers/mlp/gating_einsum": ((None, "embed", None), (None, None, "mlp")),
        "llm/layers/mlp/linear": (("mlp", None), (None, "embed")),
    }
    for name, axes in want.items():
        for suffix, names in zip("ab", axes, strict=True):
            assert boxed[f"{name}_lora_{suffix}"].names == ("layers", *names)


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("kind", [None, "nf4", "int4"])
def test_unstacked_and_quantized_layers(kind, rows):
    """As `pgjax.load` arranges them: adapters stay floats, and compute the same."""
    model, flat = make(lora=LORA), adapters()
    apart = {
        **flat,
        **to_decode_layout(
            dict(flat), kinds=matrix_kinds({n: x.shape for n, x in flat.items()}, kind), rows=rows
        ),
    }
    for name, x in apart.items():
        layers = x.layers if hasattr(x, "layers") else [x]
        small = bool(kind) and name in MATRICES and name.startswith("llm/")
        assert all(isinstance(layer, Quantized) == small for layer in layers), name
    floats = dict(flat)
    if kind:
        for name, x in apart.items():
            if hasattr(x, "layers") and isinstance(x.layers[0], Quantized):
                floats[name] = jnp.stack([dequantize(layer, jnp.float32) for layer in x.layers])
    want = hidden(make(), merged(floats, 6.0 / 3))
    np.testing.assert_allclose(hidden(model, apart), want, atol=2e-4)


@functools.cache
def loss_of(dropout=0.0):
    """(trainable, frozen, key or None) -> (loss, gradients), compiled."""
    image, text, mask, _ = inputs()
    rows = {"image": image, "text": text, "mask_ar": mask + 1, "mask_loss": mask + 1}
    rows = {name: jnp.asarray(x) for name, x in rows.items()}
    loss = make_loss(make(lora={**LORA, "dropout": dropout}), label_smoothing=0.0, chunk=4)
    run = quick_jit(jax.value_and_grad(loss, has_aux=True))

    def call(trainable, frozen, key=None):
        (value, _), grads = run(trainable, frozen, rows, jnp.full((2,), 0.5), key)
        return float(value), grads

    return call


def parts():
    flat = adapters()
    return tuple({n: x for n, x in flat.items() if is_adapter(n) == kind} for kind in (True, False))


@pytest.mark.parametrize("kind", [None, "nf4", "int8"])
def test_gradients(kind):
    """Those of the adapters through frozen matrices, against differences of the loss."""
    trainable, frozen = parts()
    if kind:
        for name in MATRICES:
            layers = [quantize(x, kind, summed_axes(name)) for x in frozen[name]]
            frozen[name] = jax.tree.map(lambda *p: jnp.stack(p), *layers)
    _, grads = loss_of()(trainable, frozen)
    rng = np.random.default_rng(2)
    step = {n: jnp.asarray(rng.choice([-1.0, 1.0], x.shape), x.dtype) for n, x in trainable.items()}
    size = 1e-3
    ahead, behind = (
        loss_of()({n: x + s * size * step[n] for n, x in trainable.items()}, frozen)[0]
        for s in (1, -1)
    )
    want = sum(float(jnp.vdot(grads[n], step[n])) for n in trainable)
    assert (ahead - behind) / (2 * size) == pytest.approx(want, rel=2e-2, abs=1e-2)
    assert all(np.abs(g).max() > 1e-4 for g in grads.values())


def test_dropout_only_in_training():
    trainable, frozen = parts()
    plain, dropping = loss_of(), loss_of(dropout=0.5)
    assert make(lora={**LORA, "dropout": 0.5}).has_dropout and not make(lora=LORA).has_dropout
    want, _ = plain(trainable, frozen)
    assert dropping(trainable, frozen)[0] == want
    key = [jax.random.key(i) for i in (1, 1, 2)]
    first, again, other = (dropping(trainable, frozen, k)[0] for k in key)
    assert first == again and len({first, other, want}) == 3
    # Only what enters an adapter is dropped: without one, nothing is.
    nothing = {n: jnp.zeros_like(x) for n, x in trainable.items()}
    assert dropping(nothing, frozen, key[0])[0] == plain(nothing, frozen)[0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"rank": -1}, "model.lora.rank is -1"),
        ({"rank": 1.5}, "model.lora.rank is 1.5, expected a whole number"),
        ({"rank": 2, "dropout": 1.0}, "model.lora.dropout is 1.0"),
        ({"rank": 2, "targets": "("}, "model.lora.targets: '\\('"),
        ({"rnak": 2}, r"model.lora: unknown key \['rnak'\]; it takes \['rank', 'alpha'"),
    ],
)
def test_mistakes(spec, message):
    with pytest.raises(UserError, match=message):
        lora_config(spec)
