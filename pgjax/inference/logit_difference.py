"""Compares the logits of two loaded models, such as a quantized one with its original."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import trees
from pgjax.inference.model import Model
from pgjax.loading.compiler_options import compiler_options


def logit_difference(
    model: Model, other: Model, batch: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Compares the logits of the first token that two models generate.

    Args:
      model: from `pgjax.load`.
      other: another one with the same tokenizer.
      batch: image, text, mask_ar and mask_input, as the op `for_answering` makes them.

    Returns:
      `max` and `mean`, of the absolute differences of logits, and `kl`, the Kullback-Leibler
      divergence of the second model's distribution from the first's in nats, averaged over rows.
    """
    logits = [_first_logits(m, batch) for m in (model, other)]
    logp, logq = (jax.nn.log_softmax(x) for x in logits)
    apart = jnp.abs(logits[0] - logits[1])
    kl = jnp.sum(jnp.exp(logp) * (logp - logq), axis=1)
    return {"max": float(apart.max()), "mean": float(apart.mean()), "kl": float(kl.mean())}


def _first_logits(model: Model, batch: Mapping[str, np.ndarray]) -> jax.Array:
    inputs = [jnp.asarray(batch[k]) for k in ("image", "text", "mask_ar", "mask_input")]

    @functools.partial(jax.jit, compiler_options=compiler_options())
    def run(params):
        variables = {"params": trees.unflatten(params)}
        options = {"max_new_tokens": 1, "cache_dtype": "float32", "method": "prefill"}
        return model.context.model.apply(variables, *inputs, **options)[0]

    with model.context.traced():
        return run(model.params)
