"""A model small enough to compile in a second, for the tests of this folder."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from pgjax.models.paligemma import abstract_params, make_model

# Compiling is most of the time that these tests take; this makes it a third.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

RES = 8
VOCAB = 37
SPEC = {
    "res": RES,
    "img": {"width": 16, "depth": 2, "mlp_dim": 24, "num_heads": 2, "patch_size": (4, 4)},
    "llm": {
        "width": 16,
        "depth": 2,
        "mlp_dim": 24,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 8,
        "vocab_size": VOCAB,
    },
}


def make(**changes):
    """The tiny model with some keys of its spec changed; `llm` and `img` are merged."""
    spec = {**SPEC, **changes}
    for tower in ("img", "llm"):
        spec[tower] = {**SPEC[tower], **changes.get(tower, {})}
    return make_model(spec)


@functools.cache
def params():
    """Random parameters, of a size that keeps activations near 1 and no norm or bias neutral."""
    boxed = abstract_params(make())
    rng = np.random.default_rng(0)

    def draw(x):
        fan_in = 1 if x.ndim < 3 else x.shape[-2]
        return jnp.asarray(rng.normal(size=x.shape) * 0.7 * fan_in**-0.5, jnp.float32)

    return jax.tree.map(draw, nn.unbox(boxed))


def batch(lengths, width, seed=0):
    """Images, and prompts of the given lengths in [B,width] arrays, padded with 0."""
    rng = np.random.default_rng(seed)
    rows = len(lengths)
    valid = np.arange(width)[None] < np.asarray(lengths)[:, None]
    text = np.where(valid, rng.integers(3, VOCAB, (rows, width)), 0).astype(np.int32)
    image = rng.uniform(-1, 1, (rows, RES, RES, 3)).astype(np.float32)
    return image, text, valid
