"""Quantizes matrices layer by layer, from a checkpoint or from parameters."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import sharding, trees
from pgjax.errors import note
from pgjax.inference.session import Session
from pgjax.models.quantized import check_kind, fits, quantize

# The decoder's are two thirds of the parameters, the image tower's a seventh. The embedding stays:
# it is looked up by row and multiplied by at the end of each token, where errors show most.
_DECODER = re.compile(r"llm/layers/(attn|mlp)/.*")
_IMAGE_TOWER = re.compile(r"img/Transformer/encoderblock/.*/kernel")


def is_quantized(name: str, shape: tuple[int, ...], images: bool = False) -> bool:
    """Whether a parameter is one that quantization takes, also of the image tower if `images`."""
    chosen = _DECODER.fullmatch(name) or (images and _IMAGE_TOWER.fullmatch(name))
    return bool(chosen) and fits(shape)


def quantized(
    tensors: Mapping[str, Any], session: Session, kind: str, images: bool = False
) -> dict[str, Any]:
    """Replaces the decoder's matrices.

    Args:
      tensors: arrays, or tensors of a checkpoint, [L,…] each; others pass through.
      session: on whose mesh the result lies, whole on each device.
      kind: nf4 or int8.
      images: the image tower's matrices as well.

    Returns:
      As `tensors`, with a `Quantized` for each matrix.

    Raises:
      UserError: an unknown kind.
    """
    check_kind(kind)
    where = sharding.replicated(session.mesh)
    convert = jax.jit(functools.partial(quantize, kind=kind))
    result, before, after = {}, 0, 0
    for name, x in tensors.items():
        if not is_quantized(name, x.shape, images):
            result[name] = x
            continue
        layers = []
        for i in range(x.shape[0]):
            layer = x.read(i, i + 1)[0] if hasattr(x, "read") else x[i]
            layers.append(convert(jax.device_put(layer, where)))
        result[name] = jax.tree.map(lambda *parts: jnp.concatenate(parts), *layers)
        before += x.dtype.itemsize * int(np.prod(x.shape))
        after += result[name].nbytes
    note(
        f"{kind}: the {'matrices' if images else 'decoder matrices'} take {after / 2**30:.2f} GiB "
        f"instead of {before / 2**30:.2f} GiB."
    )
    return result


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

    @jax.jit
    def run(params):
        variables = {"params": trees.unflatten(params)}
        options = {"max_new_tokens": 1, "cache_dtype": "float32", "method": "prefill"}
        return model.session.model.apply(variables, *inputs, **options)[0]

    return run(model.params)
