"""Quantizes parameters as they are loaded, layer by layer: no float matrix is in memory whole."""

import functools
import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from pgjax.checkpoints.placement import put
from pgjax.checkpoints.tensors import Tensor
from pgjax.console import gib
from pgjax.errors import note
from pgjax.models.layers import Unstacked
from pgjax.models.quantized import KINDS, Quantized, fits, quantize

DECODER_LAYERS = "llm/layers/"

# The decoder's matrices have two thirds of all parameters, and the image tower's a seventh. The
# embedding is not quantized: logits are products with it, in which errors show most.
_DECODER = re.compile(r"llm/layers/(attn|mlp)/.*")
_IMAGE_TOWER = re.compile(r"img/Transformer/encoderblock/.*/kernel")
# The axes of one layer's matrix that its product sums over.
_SUMMED = {
    r".*/q_einsum/w": (1,),
    r".*/kv_einsum/w": (2,),
    r".*/attn_vec_einsum/w": (0, 1),
    r".*/gating_einsum": (1,),
    r".*/linear": (0,),
    r"img/.*/(query|key|value)/kernel": (0,),
    r"img/.*/out/kernel": (0, 1),
    r"img/.*/Dense_[01]/kernel": (0,),
}


def summed_axes(name: str) -> tuple[int, ...]:
    """The axes of one layer of a matrix that its product sums over; () for other parameters."""
    return next((axes for regex, axes in _SUMMED.items() if re.fullmatch(regex, name)), ())


def is_quantized(name: str, shape: tuple[int, ...], images: bool = False) -> bool:
    """Whether a parameter can be quantized.

    Args:
      name: of the parameter.
      shape: its shape, [L,…] with the layers first.
      images: whether the image tower's matrices count as well as the decoder's.
    """
    chosen = _DECODER.fullmatch(name) or (images and _IMAGE_TOWER.fullmatch(name))
    return bool(chosen and summed_axes(name)) and fits(shape[1:], summed_axes(name))


def matrix_kinds(
    shapes: Mapping[str, tuple[int, ...]], kind: str | None, images: bool = False
) -> dict[str, str]:
    """Chooses the parameters to quantize.

    Args:
      shapes: of all parameters, by name.
      kind: int8, int4 or nf4; None for no quantization.
      images: whether the image tower's matrices are quantized as well.

    Returns:
      `kind` by the name of each parameter that is to be quantized.
    """
    if not kind:
        return {}
    return {name: kind for name, shape in shapes.items() if is_quantized(name, shape, images)}


def quantize_layers(
    tensors: dict[str, Any],
    targets: Mapping[str, jax.ShapeDtypeStruct] | None,
    kinds: Mapping[str, str],
    *,
    unstacked: bool,
) -> dict[str, Any]:
    """Quantizes the named parameters, one layer after the other.

    Args:
      tensors: arrays, or tensors of a checkpoint, [L,…] each. The named ones are removed, so that
        each is freed before the next one is quantized.
      targets: shapes and shardings of the result; None where `tensors` are arrays on the devices,
        which keep theirs.
      kinds: int8, int4 or nf4, by the name of each parameter to quantize.
      unstacked: whether the decoder's layers become an `Unstacked`, for inference.

    Returns:
      By name, a `Quantized` with a leading axis of layers, or an `Unstacked` of one per layer.
    """
    result, before, after = {}, 0, 0
    for name, kind in kinds.items():
        x, layers = tensors.pop(name), []
        target = x if targets is None else targets[name]
        convert = jax.jit(
            functools.partial(quantize, kind=kind, summed=summed_axes(name)),
            out_shardings=_code_shardings(name, x.shape, target.sharding, kind),
        )
        for i in range(x.shape[0]):
            layer = layer_of(x, i) if targets is None else read_layer(x, i, target, x.dtype)
            # Each layer is awaited, because otherwise more of them are in memory than fit.
            layers.append(jax.block_until_ready(convert(layer)))
        before += x.dtype.itemsize * math.prod(x.shape)
        if unstacked and name.startswith(DECODER_LAYERS):
            result[name] = Unstacked(tuple(layers))
        else:
            result[name] = jax.tree.map(lambda *parts: jnp.stack(parts), *layers)
        after += result[name].nbytes
    if kinds:
        images = any(_IMAGE_TOWER.fullmatch(name) for name in kinds)
        note(
            f"{', '.join(sorted(set(kinds.values())))}: the "
            f"{'matrices' if images else 'decoder matrices'} take {gib(after)} instead of "
            f"{gib(before)}."
        )
    return result


def abstract_param(
    name: str, shape: tuple[int, ...], stored: str, sharding: NamedSharding
) -> jax.ShapeDtypeStruct | Quantized:
    """Shapes, dtypes and shardings of a stored parameter, or of its codes if it is quantized.

    Args:
      name: of the parameter.
      shape: of the parameter.
      stored: a dtype, or a kind of quantization.
      sharding: of the parameter.
    """
    if stored not in KINDS:
        return jax.ShapeDtypeStruct(shape, stored, sharding=sharding)

    def stacked(x, where):
        spec = PartitionSpec(None, *where.spec)
        where = NamedSharding(sharding.mesh, spec)
        return jax.ShapeDtypeStruct((shape[0], *x.shape), x.dtype, sharding=where)

    codes = _abstract_codes(name, shape, stored)
    return jax.tree.map(stacked, codes, _code_shardings(name, shape, sharding, stored))


def layer_of(x: Any, i: int) -> Any:
    """One layer of a stack [L,…]: of an array, or of each array of a `Quantized`."""
    return jax.tree.map(lambda leaf: leaf[i], x)


def read_layer(x: Tensor, i: int, target: jax.ShapeDtypeStruct, dtype: Any = None) -> jax.Array:
    """Reads one layer of a checkpoint's tensor to the devices.

    Args:
      x: the tensor, [L,…].
      i: the layer, from 0.
      target: sharding and dtype of the stack.
      dtype: of the result; None for the target's.
    """
    return put(x.read(i, i + 1)[0], layer_sharding(target.sharding), dtype or target.dtype)


def layer_sharding(stack: NamedSharding) -> NamedSharding:
    """The sharding of one layer, given that of the stack [L,…]."""
    return NamedSharding(stack.mesh, PartitionSpec(*stack.spec[1:]))


def _abstract_codes(name: str, shape: tuple[int, ...], kind: str) -> Quantized:
    """Shapes and dtypes of one layer of a quantized parameter [L,…]."""
    layer = jax.ShapeDtypeStruct(shape[1:], jnp.float32)
    return jax.eval_shape(functools.partial(quantize, kind=kind, summed=summed_axes(name)), layer)


def _code_shardings(
    name: str, shape: tuple[int, ...], stack: Sharding, kind: str
) -> Quantized | None:
    """Shardings of one layer's codes, which do not have the parameter's axes.

    All devices that split the parameter split the codes' rows, where these can be divided evenly.
    """
    if not isinstance(stack, NamedSharding):
        return None
    mesh, spec = stack.mesh, stack.spec
    axes = tuple(itertools.chain(*(s if isinstance(s, tuple) else (s,) for s in spec if s)))
    devices = math.prod(mesh.shape[a] for a in axes)

    def split(x: jax.ShapeDtypeStruct) -> NamedSharding:
        whole = not x.ndim or x.shape[0] % devices
        return NamedSharding(mesh, PartitionSpec() if whole or not axes else PartitionSpec(axes))

    return jax.tree.map(split, _abstract_codes(name, shape, kind))
