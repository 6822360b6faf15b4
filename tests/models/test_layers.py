"""What is arranged for answering gives what the stacked layers and the plain embedding give."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import batch, make, params, quick_jit

from pgjax import trees
from pgjax.decoding.decoders import make_decoder
from pgjax.decoding.generate import plain_rules
from pgjax.loading.compiler_options import compiler_options
from pgjax.loading.decode_layout import to_decode_layout
from pgjax.loading.quantize_on_load import matrix_kinds
from pgjax.models.embedding import dot_rows, take_rows
from pgjax.models.loss import make_loss
from pgjax.models.paligemma import Cache, abstract_params
from pgjax.models.quantized import Quantized


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("kind", [None, "int8", "int4"])
def test_unstacked_layers(kind, rows):
    model = make()
    image, text, valid = batch([5, 3], 5)
    mask = np.zeros_like(text)
    flat = trees.flatten(params())
    apart = {
        **flat,
        **to_decode_layout(
            dict(flat), kinds=matrix_kinds({n: x.shape for n, x in flat.items()}, kind), rows=rows
        ),
    }
    assert all(apart[name].shape == x.shape for name, x in flat.items())
    if kind:  # back to a stack of the same codes
        flat = {
            name: jax.tree.map(lambda *p: jnp.stack(p), *x.layers)
            if hasattr(x, "layers") and isinstance(x.layers[0], Quantized)
            else flat[name]
            for name, x in apart.items()
        }

    @quick_jit
    def run(p):
        variables = {"params": trees.unflatten(p)}
        hidden = model.apply(variables, image, text, mask, valid)
        options = {"max_new_tokens": 2, "cache_dtype": "float32", "method": "prefill"}
        logits, cache = model.apply(variables, image, text, mask, valid, **options)
        cache = cache.take(jnp.int32([1, 0]))
        more, _ = model.apply(variables, jnp.int32([3, 4]), cache, method="extend")
        loss = make_loss(model, label_smoothing=0.0, chunk=2)
        ahead = {"image": image, "text": text, "mask_ar": mask, "mask_loss": np.ones_like(text)}
        _, losses = loss(trees.unflatten(p), {}, ahead, np.ones(2, np.float32), None)
        return hidden, logits, more, losses

    for got, want in zip(run(apart), run(flat), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_embedding_on_a_cpu(dtype):
    """Whatever form it is kept in, rows and products are those of the matrix."""
    rng = np.random.default_rng(0)
    table = jnp.asarray(rng.normal(size=(48, 8)), dtype)
    x = jnp.asarray(rng.normal(size=(2, 3, 8)), jnp.float32)
    (kept,) = to_decode_layout({"llm/embedder/input_embedding": table}).values() or (table,)
    assert kept.dtype == ("float16" if dtype == "float16" else "float32")
    wide = np.asarray(table, np.float32)
    tokens = np.array([[3, 47], [0, 3]])
    np.testing.assert_array_equal(take_rows(kept, jnp.asarray(tokens)), wide[tokens])
    np.testing.assert_allclose(dot_rows(x, kept), np.asarray(x) @ wide.T, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(compiler_options() is None, reason="this XLA orders programs as it likes")
@pytest.mark.parametrize("kind", [None, "nf4", "int4", "int8"])
def test_weights_are_widened_layer_by_layer(kind):
    """What is kept small stays small while it answers: no two layers are float32 at once."""
    model = make(llm={"depth": 6, "width": 64, "mlp_dim": 4096})
    shapes = trees.flatten(nn.unbox(abstract_params(model)))
    small = {name: jnp.zeros(x.shape, "float16") for name, x in shapes.items()}
    small |= to_decode_layout(
        small, kinds=matrix_kinds({n: x.shape for n, x in small.items()}, kind)
    )
    image, text, valid = batch([5], 5)
    rules = plain_rules(1, model.llm_config.vocab_size, limit=9, eos_id=-1)

    @functools.partial(jax.jit, compiler_options=compiler_options())
    def answer(params):
        variables = {"params": trees.unflatten(params)}
        options = {"max_new_tokens": 9, "cache_dtype": "float32", "method": "prefill"}
        return make_decoder("greedy")(
            lambda: model.apply(variables, image, text, np.zeros_like(text), valid, **options),
            lambda token, cache: model.apply(variables, token, cache, method="extend"),
            Cache.take,
            rules,
            max_new_tokens=9,
        ).tokens

    layer = 3 * 64 * 4096 * 4  # bytes of an MLP
    temporary = answer.lower(small).compile().memory_analysis().temp_size_in_bytes
    assert temporary < 2 * layer
