"""Brings parameters into the layout that decodes fastest: the decoder's layers apart.

Where the device is no CPU, each matrix of a layer holds an output channel per row
(`pgjax.models.rows`). On a CPU the embedding is transposed, in float32; a float16 embedding stays
as it is, to be widened in blocks. (XLA would widen all of a bfloat16 one in any case.)
"""

import functools
from collections.abc import Callable, Mapping, Sequence
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
      tensors: arrays, or tensors of a checkpoint, [L,…] each, or quantized stacks. Those that
        this takes are taken out, so that an array is gone before the next one is copied.
      targets: dtypes and shardings of the tensors; None where they are arrays, which keep theirs.
      kinds: int8, int4 or nf4 by name, of what is quantized.
      rows: whether matrices that stay floats become `Rows`; None for what suits the device.

    Returns:
      An `Unstacked` for each parameter of the decoder's layers, a `Quantized` for each quantized
      matrix of the image tower, and on a CPU perhaps a `Transposed` for the embedding.
    """
    kinds = kinds or {}
    if rows is None:
        rows = jax.default_backend() != "cpu"
    result = {}
    for name in [n for n in tensors if n.startswith(DECODER_LAYERS) and n not in kinds]:
        x = tensors.pop(name)
        layers = range(jax.tree.leaves(x)[0].shape[0] if targets is None else x.shape[0])
        read = layer_of if targets is None else functools.partial(read_layer, target=targets[name])
        turned = _turned(name, x, targets) if rows and not isinstance(x, Quantized) else None
        layers = (read(x, i) for i in layers)
        result[name] = Unstacked(tuple(turned(layer) if turned else layer for layer in layers))
    if _EMBEDDING in tensors and jax.default_backend() == "cpu":
        target = (targets or tensors)[_EMBEDDING]
        if target.dtype != jnp.float16:
            x = tensors.pop(_EMBEDDING)
            result[_EMBEDDING] = Transposed(
                jax.jit(lambda x: x.T.astype(jnp.float32))(x)
                if targets is None
                else put_transposed(x, target)
            )
    return result | quantize_layers(tensors, targets, kinds, unstacked=True)


def abstract_decode_layout(
    name: str, shape: tuple[int, ...], stored: str, sharding: NamedSharding
) -> Any:
    """The shape of a parameter in the decode layout of a GPU or TPU.

    Args:
      name: of the parameter.
      shape: of the parameter.
      stored: its dtype, or the kind of quantization.
      sharding: of the parameter.
    """
    stack = abstract_param(name, shape, stored, sharding)
    if not name.startswith(DECODER_LAYERS):
        return stack

    def of_a_layer(x):
        return jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=layer_sharding(x.sharding))

    layer = jax.tree.map(of_a_layer, stack)
    if stored not in KINDS and (summed := summed_axes(name)):
        values = jax.eval_shape(functools.partial(to_rows, summed=summed), layer)
        where = _row_sharding(sharding, shape, summed)
        values = jax.ShapeDtypeStruct(values.shape, values.dtype, sharding=where)
        layer = Rows(values, shape[1:], summed)
    return Unstacked((layer,) * shape[0])


def _turned(
    name: str, x: Any, targets: Mapping[str, jax.ShapeDtypeStruct] | None
) -> Callable[[jax.Array], Rows] | None:
    """What makes `Rows` of one layer of a matrix; None for another parameter."""
    if not (summed := summed_axes(name)):
        return None
    stack = (x if targets is None else targets[name]).sharding
    turn = jax.jit(
        functools.partial(to_rows, summed=summed),
        out_shardings=_row_sharding(stack, x.shape, summed),
    )
    # One at a time: dispatch runs ahead of what memory holds.
    return lambda layer: Rows(jax.block_until_ready(turn(layer)), layer.shape, summed)


def _row_sharding(
    stack: Sharding, shape: tuple[int, ...], summed: tuple[int, ...]
) -> NamedSharding | None:
    """Rows are split as the parameter's kept axes, columns as those that are summed over."""
    if not isinstance(stack, NamedSharding):
        return None
    spec = (*stack.spec, *(None,) * len(shape))[1 : len(shape)]

    def split(chosen: Sequence[int]) -> Any:
        # Devices that split an axis behind another one would have to split rows in between.
        outer = next((a for a in chosen if shape[1 + a] > 1), None)
        return None if outer is None else spec[outer]

    kept = [a for a in range(len(spec)) if a not in summed]
    return NamedSharding(stack.mesh, PartitionSpec(split(kept), split(summed)))
