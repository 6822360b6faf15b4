"""Arranges parameters for answering, layer by layer: unstacked, and quantized if asked for."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from pgjax import trees
from pgjax.checkpoints.load import put
from pgjax.checkpoints.tensors import Tensor
from pgjax.errors import note
from pgjax.models.layers import Unstacked
from pgjax.models.quantized import check_kind, fits, quantize

# The decoder's are two thirds of the parameters, the image tower's a seventh. The embedding stays:
# it is looked up by row and multiplied by at the end of each token, where errors show most.
_DECODER = re.compile(r"llm/layers/(attn|mlp)/.*")
_LAYERS = "llm/layers/"
_IMAGE_TOWER = re.compile(r"img/Transformer/encoderblock/.*/kernel")


def is_quantized(name: str, shape: tuple[int, ...], images: bool = False) -> bool:
    """Whether a parameter is one that quantization takes, also of the image tower if `images`."""
    chosen = _DECODER.fullmatch(name) or (images and _IMAGE_TOWER.fullmatch(name))
    return bool(chosen) and fits(shape)


def arrange(
    tensors: dict[str, Any],
    targets: Mapping[str, jax.ShapeDtypeStruct] | None = None,
    *,
    kind: str | None = None,
    images: bool = False,
) -> dict[str, Any]:
    """Brings parameters into the form that answers fastest: the decoder's layers apart.

    Args:
      tensors: arrays, or tensors of a checkpoint, [L,…] each. Those that this takes are taken out,
        so that an array is gone before the next one is copied.
      targets: dtypes and shardings of tensors; arrays stay as and where they are.
      kind: nf4 or int8, for the decoder's matrices.
      images: the image tower's matrices as well.

    Returns:
      An `Unstacked` for each parameter of the decoder's layers, and a `Quantized` for each matrix
      of the image tower if `images`.

    Raises:
      UserError: an unknown kind.
    """
    if kind:
        check_kind(kind)
    convert = jax.jit(functools.partial(quantize, kind=kind))
    result, before, after = {}, 0, 0
    for name in list(tensors):
        small = bool(kind) and is_quantized(name, tensors[name].shape, images)
        if not small and not name.startswith(_LAYERS):
            continue
        x, layers = tensors.pop(name), []
        for i in range(x.shape[0]):
            layer = x[i] if targets is None else _layer(x, i, targets[name], small)
            # One at a time: dispatch runs ahead of what memory holds.
            layers.append(jax.block_until_ready(convert(layer)) if small else layer)
        if name.startswith(_LAYERS):
            result[name] = Unstacked(tuple(layers))
        else:
            result[name] = jax.tree.map(lambda *parts: jnp.stack(parts), *layers)
        if small:
            before += x.dtype.itemsize * int(np.prod(x.shape))
            after += result[name].nbytes
    if kind:
        note(
            f"{kind}: the {'matrices' if images else 'decoder matrices'} take "
            f"{after / 2**30:.2f} GiB instead of {before / 2**30:.2f} GiB."
        )
    return result


def _layer(x: Tensor, i: int, target: jax.ShapeDtypeStruct, as_stored: bool) -> jax.Array:
    """One layer of a checkpoint's tensor, on the devices."""
    where = NamedSharding(target.sharding.mesh, PartitionSpec(*target.sharding.spec[1:]))
    return put(x.read(i, i + 1)[0], where, x.dtype if as_stored else target.dtype)


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
