"""Names, shapes and logical axes of the parameters; sizes by name."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GOLDEN
from tiny_model import SPEC, VOCAB, batch, make, params, quick_jit

from pgjax import trees
from pgjax.errors import UserError
from pgjax.models.paligemma import abstract_params, init_params, make_model
from pgjax.models.variants import gemma_config, siglip_config

AXES = {"layers", "embed", "act_embed", "heads", "kv_heads", "head_dim", "mlp", "vocab", None}


def test_full_size_tree():
    want = json.loads((GOLDEN / "full_size_shapes.json").read_text())
    spec = {"res": 224, "img": {"variant": "So400m/14"}, "llm": {"variant": "gemma_2b"}}
    flat = trees.flatten(nn.unbox(abstract_params(make_model(spec))))
    assert {f"params/{k}": list(x.shape) for k, x in flat.items()} == {
        k: v["shape"] for k, v in want["params"].items()
    }
    assert {str(x.dtype) for x in flat.values()} == {"float32"}
    total = sum(int(np.prod(x.shape)) for x in flat.values())
    assert total == want["total"] == 2_923_335_408


def test_golden_names_and_shapes():
    spec = json.loads((GOLDEN / "manifest.json").read_text())["model"]
    img = {k: v for k, v in spec["img"].items() if k not in ("pool_type", "scan")}
    model = make_model({"res": spec["res"], "img": img, "llm": spec["llm"]})
    flat = trees.flatten(nn.unbox(abstract_params(model)))
    with np.load(GOLDEN / "params.npz") as arrays:
        want = {name.removeprefix("params/"): x.shape for name, x in arrays.items()}
    assert {name: x.shape for name, x in flat.items()} == want


def test_every_parameter_has_logical_axes():
    flat = trees.flatten(abstract_params(make()))
    for name, box in flat.items():
        assert isinstance(box, nn.Partitioned), name
        assert len(box.names) == box.unbox().ndim, name
        assert set(box.names) <= AXES, name
        scanned = "encoderblock" in name or "llm/layers" in name
        assert (box.names[0] == "layers") == scanned, name
        assert "layers" not in box.names[1:], name
    names = {name: box.names for name, box in flat.items()}
    assert names["llm/embedder/input_embedding"] == ("vocab", "embed")
    assert names["llm/layers/mlp/linear"] == ("layers", "mlp", "embed")
    assert names["llm/layers/attn/q_einsum/w"] == ("layers", "heads", "embed", "head_dim")
    # Each axis has the size that its name says.
    sizes = {"mlp": 24, "vocab": VOCAB, "layers": 2, "kv_heads": 2}
    for name, box in flat.items():
        for axis, size in zip(box.names, box.unbox().shape, strict=True):
            assert sizes.get(axis, size) == size, name


def test_random_parameters_are_sensible():
    key = jax.random.key(0, impl="unsafe_rbg")  # compiles faster than the usual one
    flat = trees.flatten(quick_jit(lambda k: init_params(make(), k))(key))
    assert all(x.dtype == jnp.float32 and np.isfinite(x).all() for x in flat.values())
    for name in ("llm/layers/mlp/linear", "llm/layers/attn/q_einsum/w"):
        first, second = np.asarray(flat[name])
        assert np.abs(first - second).max() > 1e-3, "all layers are the same"
    np.testing.assert_array_equal(flat["llm/final_norm/scale"], 0)  # an offset from 1
    np.testing.assert_array_equal(flat["img/Transformer/encoder_norm/scale"], 1)
    fan_in = {
        "llm/layers/mlp/linear": 24,
        "llm/layers/mlp/gating_einsum": 16,
        "llm/layers/attn/attn_vec_einsum/w": 32,
        "llm/layers/attn/q_einsum/w": 16,
    }
    for name, n in fan_in.items():
        assert np.std(flat[name]) == pytest.approx(n**-0.5, rel=0.15), name


def decode_embeddings(m, x):
    """The decoder over [B,T,D], causally."""
    b, t, _ = x.shape
    positions = jnp.tile(jnp.arange(t, dtype=jnp.int32), (b, 1))
    mask = jnp.tile(jnp.tril(jnp.ones((t, t), bool)), (b, 1, 1))
    return m.llm(x, positions, mask, deterministic=False)[0]


def test_remat_policies_give_the_same_gradients():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 16)), jnp.float32)

    def gradients(remat):
        model = make(remat=remat, llm={"dropout": 0.3})
        rngs = {"dropout": jax.random.key(5)}  # what is computed again must draw the same
        run = functools.partial(model.apply, method=decode_embeddings, rngs=rngs)
        loss = jax.grad(lambda p, x: jnp.sum(jnp.sin(run({"params": p}, x))), argnums=(0, 1))
        p, x_grad = quick_jit(loss)(params(), x)
        return {**trees.flatten(p["llm"]["layers"]), "x": x_grad}

    none, full, dots = map(gradients, ("none", "full", "dots"))
    for name, want in none.items():
        assert np.abs(want).max() > 1e-3, name
        for got in (full[name], dots[name]):
            np.testing.assert_allclose(got, want, atol=1e-5 * max(np.abs(want).max(), 1))


@pytest.mark.parametrize("tower", ["img", "llm"])
def test_dropout(tower):
    image, text, _ = batch((3,), 3)
    twice = jnp.asarray(image.repeat(2, 0)), jnp.asarray(text.repeat(2, 0))

    @quick_jit
    def run(key):
        model = make(**{tower: {"dropout": 0.3}})
        args = *twice, jnp.zeros((2, 3), jnp.int32)
        return model.apply({"params": params()}, *args, deterministic=False, rngs={"dropout": key})

    first, again, other = (np.asarray(run(jax.random.key(i))) for i in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-2
    assert np.abs(first[0] - first[1]).max() > 1e-2  # rows draw for themselves


def test_remat_keeps_less():
    """What each policy saves for the backward pass, counted from the residuals of the vjp."""
    image, text, _ = batch((4, 4), 4)
    args = jnp.asarray(image), jnp.asarray(text), jnp.zeros((2, 4), jnp.int32)

    def saved(remat):
        model = make(remat=remat)

        def residuals(p):
            return jax.vjp(lambda p: model.apply({"params": p}, *args), p)[1]

        leaves = jax.tree.leaves(jax.eval_shape(residuals, params()))
        return sum(x.size * x.dtype.itemsize for x in leaves)

    full, dots, none = map(saved, ("full", "dots", "none"))
    assert full < dots < none


def test_unknown_remat_policy():
    image, text, _ = batch((2,), 2)
    with pytest.raises(UserError, match=r"remat 'some'.*full.*dots.*none"):
        make(remat="some").apply({"params": params()}, image, text, jnp.asarray(text))


def test_variants():
    gemma = gemma_config({"variant": "gemma_2b", "dropout": 0.1})
    assert (gemma.width, gemma.depth, gemma.dropout) == (2048, 18, 0.1)
    assert siglip_config({"variant": "So400m/14", "depth": None}).depth == 27
    assert siglip_config({**SPEC["img"], "patch_size": [4, 4]}).patch_size == (4, 4)


@pytest.mark.parametrize(
    ("build", "spec", "message"),
    [
        (gemma_config, {"variant": "gemma_3b"}, r"model.llm.variant: 'gemma_3b' .* 'gemma_2b'"),
        (siglip_config, {"variant": "B/16"}, r"model.img.variant: 'B/16' .*So400m/14"),
        (gemma_config, {"variant": "gemma_2b", "widht": 1}, r"model.llm: .*widht.*width"),
        (siglip_config, {"variant": "tiny/8", "pool_type": "map"}, r"model.img: .*pool_type"),
        (gemma_config, {"width": 8}, r"model.llm: without a variant.*depth.*vocab_size"),
        (siglip_config, {}, r"model.img: without a variant"),
        (siglip_config, {**SPEC["img"], "num_heads": 3}, r"width 16 .* num_heads 3"),
        (gemma_config, {**SPEC["llm"], "num_kv_heads": 3}, r"num_heads 4 .*num_kv_heads 3"),
        (gemma_config, {**SPEC["llm"], "head_dim": 7}, r"head_dim 7 even"),
    ],
)
def test_size_errors(build, spec, message):
    with pytest.raises(UserError, match=message):
        build(spec)
