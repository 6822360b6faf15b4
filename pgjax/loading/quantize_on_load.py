"""Quantizes parameters layer by layer as they are read, so that no float matrix exists whole."""

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

# The decoder's matrices are two thirds of the parameters, the image tower's a seventh. The
# embedding stays as it is: its rows are looked up, and the logits are products with it, where
# errors show most.
_DECODER = re.compile(r"llm/layers/(attn|mlp)/.*")
_IMAGE_TOWER = re.compile(r"img/Transformer/encoderblock/.*/kernel")
# Which axes of a layer's matrix a product sums over.
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
    """The axes of one layer of a matrix that its products sum over; none of another parameter."""
    return next((axes for regex, axes in _SUMMED.items() if re.fullmatch(regex, name)), ())


def is_quantized(name: str, shape: tuple[int, ...], images: bool = False) -> bool:
    """Whether quantization takes a parameter.

    Args:
      name: of the parameter.
      shape: its shape, [L,…] with the layers first.
      images: whether the image tower's matrices are taken as well as the decoder's.
    """
    chosen = _DECODER.fullmatch(name) or (images and _IMAGE_TOWER.fullmatch(name))
    return bool(chosen and summed_axes(name)) and fits(shape[1:], summed_axes(name))


def matrix_kinds(
    shapes: Mapping[str, tuple[int, ...]], kind: str | None, images: bool = False
) -> dict[str, str]:
    """The kind of quantization of each parameter that is quantized.

    Args:
      shapes: of all parameters, by name.
      kind: int8, int4 or nf4; None for no quantization.
      images: whether the image tower's matrices are quantized as well.
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
      tensors: arrays, or tensors of a checkpoint, [L,…] each. The named ones are taken out, so
        that an array is gone before the next one is quantized.
      targets: shapes and shardings of the tensors; None where they are arrays, which stay where
        they are.
      kinds: int8, int4 or nf4, by name.
      unstacked: whether the decoder's layers become an `Unstacked`, for answering.

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
            # One at a time, because dispatch runs ahead of what fits into memory.
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
    """The shape of a parameter, or those of its codes where `stored` is a kind of quantization."""
    if stored not in KINDS:
        return jax.ShapeDtypeStruct(shape, stored, sharding=sharding)

    def stacked(x, where):
        spec = PartitionSpec(None, *where.spec)
        where = NamedSharding(sharding.mesh, spec)
        return jax.ShapeDtypeStruct((shape[0], *x.shape), x.dtype, sharding=where)

    codes = _abstract_codes(name, shape, stored)
    return jax.tree.map(stacked, codes, _code_shardings(name, shape, sharding, stored))


def layer_of(x: Any, i: int) -> Any:
    """One layer of a stack of arrays, quantized or not."""
    return jax.tree.map(lambda leaf: leaf[i], x)


def read_layer(x: Tensor, i: int, target: jax.ShapeDtypeStruct, dtype: Any = None) -> jax.Array:
    """One layer of a checkpoint's tensor, brought to the devices in a dtype or the target's."""
    return put(x.read(i, i + 1)[0], layer_sharding(target.sharding), dtype or target.dtype)


def layer_sharding(stack: NamedSharding) -> NamedSharding:
    """The sharding of one layer of a stack."""
    return NamedSharding(stack.mesh, PartitionSpec(*stack.spec[1:]))


def _abstract_codes(name: str, shape: tuple[int, ...], kind: str) -> Quantized:
    """Of one layer of a parameter [L,…]."""
    layer = jax.ShapeDtypeStruct(shape[1:], jnp.float32)
    return jax.eval_shape(functools.partial(quantize, kind=kind, summed=summed_axes(name)), layer)


def _code_shardings(
    name: str, shape: tuple[int, ...], stack: Sharding, kind: str
) -> Quantized | None:
    """The devices that split a parameter split its codes as well, which have lost its axes."""
    if not isinstance(stack, NamedSharding):
        return None
    mesh, spec = stack.mesh, stack.spec
    axes = tuple(itertools.chain(*(s if isinstance(s, tuple) else (s,) for s in spec if s)))
    devices = math.prod(mesh.shape[a] for a in axes)

    def split(x: jax.ShapeDtypeStruct) -> NamedSharding:
        whole = not x.ndim or x.shape[0] % devices
        return NamedSharding(mesh, PartitionSpec() if whole or not axes else PartitionSpec(axes))

    return jax.tree.map(split, _abstract_codes(name, shape, kind))
