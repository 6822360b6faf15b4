"""The layout of parameters that decodes fastest, in which the decoder's layers are separate.

On a GPU or TPU, each matrix of a layer stores one output channel per row (`pgjax.models.rows`). On
a CPU the embedding is transposed and in float32, unless it is float16, which the model converts in
blocks. (XLA would convert the whole of a bfloat16 embedding at every token.)
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from pgjax.checkpoints.placement import put_transposed
from pgjax.loading.quantize_on_load import (
    DECODER_LAYERS,
    abstract_param,
    layer_of,
    layer_sharding,
    quantize_layers,
    read_layer,
    summed_axes,
)
from pgjax.models.embedding import Transposed
from pgjax.models.layers import Unstacked
from pgjax.models.quantized import KINDS, Quantized
from pgjax.models.rows import Rows, to_rows

_EMBEDDING = "llm/embedder/input_embedding"


def to_decode_layout(
    tensors: dict[str, Any],
    targets: Mapping[str, jax.ShapeDtypeStruct] | None = None,
    *,
    kinds: Mapping[str, str] | None = None,
    rows: bool | None = None,
) -> dict[str, Any]:
    """Brings parameters into the decode layout, and quantizes those that `kinds` names.

    Args:
      tensors: arrays or quantized stacks, or tensors of a checkpoint, [L,…] each. What this
        function converts is removed, so that it is freed before the next parameter is converted.
      targets: dtypes and shardings of the result; None where `tensors` are arrays on the devices,
        which keep theirs.
      kinds: int8, int4 or nf4, by the name of each parameter to quantize.
      rows: whether matrices that stay floats become `Rows`; None for what suits the device.

    Returns:
      The converted parameters by name: an `Unstacked` for each parameter of the decoder's layers,
      a `Quantized` for each quantized matrix of the image tower, and on a CPU a `Transposed` for
      an embedding that is not float16.
    """
    kinds = kinds or {}
    if rows is None:
        rows = jax.default_backend() != "cpu"
    result = {}
    for name in [n for n in tensors if n.startswith(DECODER_LAYERS) and n not in kinds]:
        target = None if targets is None else targets[name]
        result[name] = _unstacked(name, tensors.pop(name), target, rows)
    if _EMBEDDING in tensors and jax.default_backend() == "cpu":
        target = None if targets is None else targets[_EMBEDDING]
        if (target or tensors[_EMBEDDING]).dtype != jnp.float16:
            result[_EMBEDDING] = _transposed(tensors.pop(_EMBEDDING), target)
    return result | quantize_layers(tensors, targets, kinds, unstacked=True)


def _unstacked(name: str, x: Any, target: jax.ShapeDtypeStruct | None, rows: bool) -> Unstacked:
    """Takes a stack [L,…] apart; its layers become `Rows` where asked for and possible."""
    if target is None:
        layers = (layer_of(x, i) for i in range(jax.tree.leaves(x)[0].shape[0]))
    else:
        layers = (read_layer(x, i, target) for i in range(x.shape[0]))
    if rows and not isinstance(x, Quantized) and (summed := summed_axes(name)):
        sharding = (x if target is None else target).sharding
        convert = jax.jit(
            functools.partial(to_rows, summed=summed),
            out_shardings=_row_sharding(sharding, x.shape, summed),
        )
        # Each layer is awaited, because otherwise more of them are in memory than fit.
        layers = (
            Rows(jax.block_until_ready(convert(layer)), layer.shape, summed) for layer in layers
        )
    return Unstacked(tuple(layers))


def _transposed(x: Any, target: jax.ShapeDtypeStruct | None) -> Transposed:
    if target is not None:
        return Transposed(put_transposed(x, target))
    return Transposed(jax.jit(lambda x: x.T.astype(jnp.float32))(x))


def abstract_decode_layout(
    name: str, shape: tuple[int, ...], stored: str, sharding: NamedSharding
) -> Any:
    """Shapes, dtypes and shardings of a parameter in the decode layout of a GPU or TPU.

    Args:
      name: of the parameter.
      shape: of the stacked parameter, [L,…] for one of the layers.
      stored: its dtype, or the kind of quantization.
      sharding: of the stacked parameter.
    """
    stack = abstract_param(name, shape, stored, sharding)
    if not name.startswith(DECODER_LAYERS):
        return stack

    def of_a_layer(x):
        return jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=layer_sharding(x.sharding))

    layer = jax.tree.map(of_a_layer, stack)
    if stored not in KINDS and (summed := summed_axes(name)):
        converted = jax.eval_shape(functools.partial(to_rows, summed=summed), layer)
        where = _row_sharding(sharding, shape, summed)
        values: Any = jax.ShapeDtypeStruct(converted.shape, converted.dtype, sharding=where)
        layer = Rows(values, shape[1:], summed)
    return Unstacked((layer,) * shape[0])


def _row_sharding(
    stack: Sharding, shape: tuple[int, ...], summed: tuple[int, ...]
) -> NamedSharding | None:
    """The sharding of `Rows`: rows are split as the output axes are, columns as the summed ones."""
    if not isinstance(stack, NamedSharding):
        return None
    spec = (*stack.spec, *(None,) * len(shape))[1 : len(shape)]

    def split(chosen: Sequence[int]) -> Any:
        # Of merged axes only the outermost can be split: it alone makes contiguous blocks.
        outer = next((a for a in chosen if shape[1 + a] > 1), None)
        return None if outer is None else spec[outer]

    kept = [a for a in range(len(spec)) if a not in summed]
    return NamedSharding(stack.mesh, PartitionSpec(split(kept), split(summed)))
