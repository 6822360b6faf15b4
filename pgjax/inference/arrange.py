"""Arranges parameters for answering, layer by layer: unstacked, and quantized if asked for."""

import functools
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from pgjax import trees
from pgjax.checkpoints.load import put, put_transposed
from pgjax.checkpoints.tensors import Tensor
from pgjax.console import gib
from pgjax.errors import note
from pgjax.inference.compiling import compiler_options
from pgjax.models.embedding import Transposed
from pgjax.models.layers import Unstacked
from pgjax.models.quantized import KINDS, Quantized, check_kind, fits, quantize
from pgjax.models.rows import Rows, to_rows

# The decoder's are two thirds of the parameters, the image tower's a seventh. The embedding stays:
# it is looked up by row and multiplied by at the end of each token, where errors show most.
_DECODER = re.compile(r"llm/layers/(attn|mlp)/.*")
_LAYERS = "llm/layers/"
_EMBEDDING = "llm/embedder/input_embedding"
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
    """Whether a parameter is one that quantization takes, also of the image tower if `images`."""
    chosen = _DECODER.fullmatch(name) or (images and _IMAGE_TOWER.fullmatch(name))
    return bool(chosen and summed_axes(name)) and fits(shape[1:], summed_axes(name))


def arrange(
    tensors: dict[str, Any],
    targets: Mapping[str, jax.ShapeDtypeStruct] | None = None,
    *,
    kind: str | None = None,
    images: bool = False,
    rows: bool | None = None,
) -> dict[str, Any]:
    """Brings parameters into the form that answers fastest.

    The decoder's layers apart, their matrices with an output channel to a row where the device is
    no CPU (`pgjax.models.rows`), and on a CPU the embedding transposed, in float32. A float16 one
    stays as it is, to be widened in blocks; XLA would widen all of a bfloat16 one in any case.

    Args:
      tensors: arrays, or tensors of a checkpoint, [L,…] each, or quantized stacks. Those that this
        takes are taken out, so that an array is gone before the next one is copied.
      targets: dtypes and shardings of tensors; arrays stay as and where they are.
      kind: int8, int4 or nf4, for the decoder's matrices.
      images: the image tower's matrices as well.
      rows: whether matrices that stay floats become `Rows`; None for what suits the device.

    Returns:
      An `Unstacked` for each parameter of the decoder's layers, a `Quantized` for each matrix of
      the image tower if `images`, and on a CPU perhaps a `Transposed` for the embedding.

    Raises:
      UserError: an unknown kind.
    """
    if kind:
        check_kind(kind)
    if rows is None:
        rows = jax.default_backend() != "cpu"
    small = [
        name
        for name, x in tensors.items()
        if kind and not isinstance(x, Quantized) and is_quantized(name, x.shape, images)
    ]
    result = {}
    for name in [n for n in tensors if n.startswith(_LAYERS) and n not in small]:
        x = tensors.pop(name)
        layers = range(jax.tree.leaves(x)[0].shape[0] if targets is None else x.shape[0])
        read = _slice if targets is None else functools.partial(_read, target=targets[name])
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
    return result | quantized(tensors, targets, small, kind, apart=True)


def quantized(
    tensors: dict[str, Any],
    targets: Mapping[str, jax.ShapeDtypeStruct] | None,
    names: Sequence[str],
    kind: str | None,
    *,
    apart: bool,
) -> dict[str, Any]:
    """Quantizes parameters layer by layer, so that no float matrix exists whole on the devices.

    Args:
      tensors: as in `arrange`; the named ones are taken out.
      targets: shardings of tensors; None where they are arrays.
      names: of what is quantized.
      kind: int8, int4 or nf4.
      apart: whether the decoder's layers become an `Unstacked`, for answering.

    Returns:
      A `Quantized` with a leading axis of layers each, or an `Unstacked` of them.
    """
    result, before, after = {}, 0, 0
    for name in names:
        x, layers = tensors.pop(name), []
        target = x if targets is None else targets[name]
        convert = jax.jit(
            functools.partial(quantize, kind=kind, summed=summed_axes(name)),
            out_shardings=_code_shardings(name, x.shape, target.sharding, kind),
        )
        for i in range(x.shape[0]):
            layer = _slice(x, i) if targets is None else _read(x, i, target, x.dtype)
            # One at a time: dispatch runs ahead of what memory holds.
            layers.append(jax.block_until_ready(convert(layer)))
        before += x.dtype.itemsize * int(np.prod(x.shape))
        if apart and name.startswith(_LAYERS):
            result[name] = Unstacked(tuple(layers))
        else:
            result[name] = jax.tree.map(lambda *parts: jnp.stack(parts), *layers)
        after += result[name].nbytes
    if names:
        images = any(_IMAGE_TOWER.fullmatch(name) for name in names)
        note(
            f"{kind}: the {'matrices' if images else 'decoder matrices'} take "
            f"{gib(after)} instead of {gib(before)}."
        )
    return result


def abstract_param(
    name: str, shape: tuple[int, ...], kept: str, sharding: NamedSharding
) -> jax.ShapeDtypeStruct | Quantized:
    """The shape of a parameter, or those of its codes where `kept` is a kind of quantization."""
    if kept not in KINDS:
        return jax.ShapeDtypeStruct(shape, kept, sharding=sharding)

    def stacked(x, where):
        spec = PartitionSpec(None, *where.spec)
        where = NamedSharding(sharding.mesh, spec)
        return jax.ShapeDtypeStruct((shape[0], *x.shape), x.dtype, sharding=where)

    codes = _abstract_codes(name, shape, kept)
    return jax.tree.map(stacked, codes, _code_shardings(name, shape, sharding, kept))


def abstract_arranged(name: str, shape: tuple[int, ...], kept: str, sharding: NamedSharding) -> Any:
    """The shapes of what `arrange` makes of a parameter, or leaves as it is, for a GPU or TPU.

    Args:
      name: of the parameter.
      shape: of the parameter.
      kept: its dtype, or the kind of quantization.
      sharding: of the parameter.
    """
    stack = abstract_param(name, shape, kept, sharding)
    if not name.startswith(_LAYERS):
        return stack

    def of_a_layer(x):
        return jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=_of_a_layer(x.sharding))

    layer = jax.tree.map(of_a_layer, stack)
    if kept not in KINDS and (summed := summed_axes(name)):
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


def _slice(x: Any, i: int) -> Any:
    """One layer of a stack, also of a quantized one."""
    return jax.tree.map(lambda leaf: leaf[i], x)


def _read(x: Tensor, i: int, target: jax.ShapeDtypeStruct, dtype: Any = None) -> jax.Array:
    """One layer of a checkpoint's tensor, on the devices."""
    return put(x.read(i, i + 1)[0], _of_a_layer(target.sharding), dtype or target.dtype)


def _of_a_layer(stack: NamedSharding) -> NamedSharding:
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
        return model.session.model.apply(variables, *inputs, **options)[0]

    with model.session.traced():
        return run(model.params)
