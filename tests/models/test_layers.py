"""Layers one after the other give what a scan over the stacked ones gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import batch, make, params, quick_jit

from pgjax import trees
from pgjax.inference.arrange import arrange
from pgjax.models.loss import make_loss


@pytest.mark.parametrize("kind", [None, "int8"])
def test_unstacked_layers(kind):
    model = make()
    image, text, valid = batch([5, 3], 5)
    mask = np.zeros_like(text)
    flat = trees.flatten(params())
    apart = {**flat, **arrange(dict(flat), kind=kind)}
    assert all(apart[name].shape == x.shape for name, x in flat.items())
    if kind:  # back to a stack of the same codes
        flat = {
            name: jax.tree.map(lambda *p: jnp.stack(p), *x.layers) if hasattr(x, "layers") else x
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
