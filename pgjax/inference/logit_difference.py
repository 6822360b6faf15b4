"""How far two loaded models' logits are apart, such as a quantized one's from its original's."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import trees
from pgjax.loading.compiler_options import compiler_options


def logit_difference(model: Any, other: Any, batch: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How far two models' first logits are apart.

    Args:
      model: a `Model`.
      other: another one with the same tokenizer.
      batch: image, text, mask_ar and mask_input, as `for_answering` makes them.

    Returns:
      `max` and `mean` absolute difference, and `kl`, the divergence in nats from the first
      model's next token to the second's, averaged over rows.
    """
    logits = [_first_logits(m, batch) for m in (model, other)]
    logp, logq = (jax.nn.log_softmax(x) for x in logits)
    apart = jnp.abs(logits[0] - logits[1])
    kl = jnp.sum(jnp.exp(logp) * (logp - logq), axis=1)
    return {"max": float(apart.max()), "mean": float(apart.mean()), "kl": float(kl.mean())}


def _first_logits(model: Any, batch: Mapping[str, np.ndarray]) -> jax.Array:
    inputs = [jnp.asarray(batch[k]) for k in ("image", "text", "mask_ar", "mask_input")]

    @functools.partial(jax.jit, compiler_options=compiler_options())
    def run(params):
        variables = {"params": trees.unflatten(params)}
        options = {"max_new_tokens": 1, "cache_dtype": "float32", "method": "prefill"}
        return model.context.model.apply(variables, *inputs, **options)[0]

    with model.context.traced():
        return run(model.params)
