"""The device mesh, and the sharding of every parameter, activation and batch on it.

One mesh with two axes serves everything: `data` splits the batch (and, under fsdp, parameters),
`model` splits heads, hidden units and the vocabulary. A single device is a mesh of one.
"""

import contextlib
import contextvars
import functools
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from pgjax import trees
from pgjax.errors import UserError

# jaxlib has no type stubs for its compiled part, so type checkers take `jax.Device` for a variable.
JaxDevice: TypeAlias = jax.Device  # pyright: ignore[reportInvalidTypeForm]

# Logical axes of parameters that the mesh axis `model` may split.
TENSOR_AXES = ("heads", "mlp", "vocab")
# Logical axes of activations, and the mesh axis that splits each of them.
ACTIVATION_AXES = {
    "batch": "data", "features": "data",
    "heads": "model", "kv_heads": "model", "mlp": "model", "vocab": "model",
}  # fmt: skip
STRATEGIES = ("replicate", "fsdp", "tensor", "fsdp+tensor")

_BY_FEATURE: contextvars.ContextVar[bool] = contextvars.ContextVar("by_feature", default=False)
_DEVICE: contextvars.ContextVar[JaxDevice | None] = contextvars.ContextVar("device", default=None)


def make_mesh(
    data: int = -1, model: int = 1, *, devices: Sequence[JaxDevice] | None = None
) -> Mesh:
    """Makes a mesh with the axes `data` and `model`.

    Args:
      data: number of devices along `data`; -1 for those that the other axis leaves.
      model: number of devices along `model`; -1 for those that the other axis leaves.
      devices: the devices of the mesh; None for all devices of all processes.

    Raises:
      UserError: the sizes do not multiply to the number of devices.
    """
    n = jax.device_count() if devices is None else len(devices)
    sizes = [data, model]
    if -1 in sizes and sizes.count(-1) == 1:
        rest = sizes[1 - sizes.index(-1)]
        sizes[sizes.index(-1)] = n // rest if rest > 0 and n % rest == 0 else 0
    if min(sizes) < 1 or sizes[0] * sizes[1] != n:
        raise UserError(
            f"config.mesh data={data}, model={model} does not fit {n} device(s); data × model "
            "must equal the number of devices, and one of the two may be -1 for what is left."
        )
    axes = ("data", "model"), (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh(tuple(sizes), *axes, devices=devices)


@contextlib.contextmanager
def use_mesh(mesh: Mesh, *, embedding_by_feature: bool = False) -> Iterator[None]:
    """Makes `constrain` put activations on this mesh while a function is traced.

    Args:
      mesh: from `make_mesh`.
      embedding_by_feature: whether the mesh axis `data` splits the features of the embedding, as
        under fsdp.
    """
    device = mesh.devices.flat[0]
    token, before = _DEVICE.set(device), _BY_FEATURE.set(embedding_by_feature)
    try:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh), _kernels_for(device):
            yield
    finally:
        _DEVICE.reset(token)
        _BY_FEATURE.reset(before)


def _kernels_for(device: JaxDevice) -> contextlib.AbstractContextManager:
    """Tells tokamax not to query a GPU where the mesh's GPUs are only described, not present."""
    elsewhere = device.platform == "gpu" and jax.default_backend() != "gpu"
    if not elsewhere or importlib.util.find_spec("tokamax") is None:
        return contextlib.nullcontext()
    from tokamax import config  # pyright: ignore[reportMissingImports]

    return config.cross_compile(True)


def device() -> JaxDevice:
    """Returns a device that functions are traced for: the mesh's first one, or this machine's."""
    return _DEVICE.get() or jax.devices()[0]


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Splits an activation over the mesh of `use_mesh`, inside a function that is traced.

    Without such constraints XLA follows the parameters, which fsdp splits by feature, and every
    device works on the whole batch.

    Args:
      x: an array of any shape.
      axes: for each dimension of x a logical name (a key of `ACTIVATION_AXES`), or None for a
        dimension that stays whole. One that the mesh axis does not divide stays whole too, except
        the batch.

    Returns:
      x with its sharding fixed.

    Raises:
      RuntimeError: x lies on several devices and no mesh is in use, so that the constraint would be
        dropped and the program partitioned in an unforeseen way.
      ValueError: the mesh axis `data` does not divide the batch.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        if jax.typeof(x).sharding.mesh.size > 1:
            raise RuntimeError(
                f"an activation of shape {x.shape} on a mesh of several devices is traced outside "
                "pgjax.sharding.use_mesh, so that its sharding would be left to chance."
            )
        return x
    if mesh.size == 1 or mesh.are_all_axes_manual:
        return x
    return jax.lax.with_sharding_constraint(x, activation_spec(mesh, x.shape, axes))


def gather(w: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
    """Gathers a parameter for a product: whole along `data`, over which fsdp splits it.

    It is gathered once in a layer, in the dtype that it has here, for all products that read it.
    Its gradient is not constrained, so that it is summed straight into the parameter's shards.

    Args:
      w: one layer's value of a parameter.
      axes: its logical names; the dimensions named in `ACTIVATION_AXES` stay split over `model`.

    Returns:
      w with its sharding fixed.
    """
    kept = tuple(name if name in ACTIVATION_AXES else None for name in axes)
    if jax.sharding.get_abstract_mesh().size > 1:
        return _gathered(w, kept)
    return constrain(w, *kept)  # raises where a mesh is missing


def _constrained(w, axes):
    return constrain(w, *axes)


_gathered = jax.custom_vjp(_constrained, nondiff_argnums=(1,))
# A gradient constrained like w would be summed in whole on every device.
_gathered.defvjp(lambda w, axes: (_gathered(w, axes), None), lambda axes, _, g: (g,))


def constrain_looked_up(x: jax.Array) -> jax.Array:
    """Shards rows of the embedding by feature, where they are looked up, and then by batch.

    Otherwise a compiler may send the gradients of all rows to every device, to add them to the
    embedding there.

    Args:
      x: [B,T,D].
    """
    if _BY_FEATURE.get():
        x = constrain(x, None, None, "features")
    return constrain(x, "batch", None, None)


def activation_spec(
    mesh: Mesh | AbstractMesh, shape: tuple[int, ...], axes: Sequence[str | None]
) -> PartitionSpec:
    """Returns the partition of an activation over a mesh, by the rules of `constrain`.

    Raises:
      ValueError: the mesh axis `data` does not divide the batch, or the number of names is not the
        number of dimensions.
    """
    spec = []
    for size, name in zip(shape, axes, strict=True):
        axis = name and ACTIVATION_AXES[name]
        if axis and size % mesh.shape[axis]:
            if name == "batch":
                raise ValueError(
                    f"a batch of {size} rows cannot be split over {mesh.shape[axis]} devices."
                )
            axis = None
        spec.append(axis)
    return PartitionSpec(*spec)


def data_size() -> int:
    """Returns how many devices the mesh of `use_mesh` splits a batch over; 1 without a mesh."""
    return jax.sharding.get_abstract_mesh().shape.get("data", 1)


def model_size() -> int:
    """Returns how many devices the mesh of `use_mesh` splits heads over; 1 without a mesh."""
    return jax.sharding.get_abstract_mesh().shape.get("model", 1)


def take_rows(x: jax.Array, rows: jax.Array, axis: int = 0) -> jax.Array:
    """Takes rows of a batch without moving any between devices.

    Args:
      x: [...,B,...] with the batch at `axis`, split over the mesh axis `data`.
      rows: int32 [M], where M is a multiple of the number of devices along `data`; the rows for
        each device must be among those that it holds.
      axis: position of the batch, not negative.

    Returns:
      [...,M,...], split in the same way.
    """
    parts, shape = data_size(), x.shape
    each = shape[axis] // parts
    split = x.reshape(*shape[:axis], parts, each, *shape[axis + 1 :])
    take = functools.partial(jnp.take, axis=axis)
    y = jax.vmap(take, (axis, 0), axis)(split, rows.reshape(parts, -1) % each)
    return y.reshape(*shape[:axis], rows.size, *shape[axis + 1 :])


def over_mesh(
    function: Callable[..., jax.Array],
    args_axes: Sequence[tuple[str | None, ...]],
    result_axes: tuple[str | None, ...],
) -> Callable[..., jax.Array]:
    """Wraps a function of arrays so that every device of the mesh calls it with its own part.

    Args:
      function: takes as many arrays as there are `args_axes`, and returns an array of the first
        one's shape.
      args_axes: logical names of each argument's dimensions, see `constrain`.
      result_axes: logical names of the result's dimensions.

    Returns:
      A function of the whole arrays.
    """

    def run(*args):
        mesh = jax.sharding.get_abstract_mesh()
        if mesh.size == 1 or mesh.empty:
            return function(*args)
        specs = [
            activation_spec(mesh, x.shape, axes) for x, axes in zip(args, args_axes, strict=True)
        ]
        result = activation_spec(mesh, args[0].shape, result_axes)
        mapped = jax.shard_map(function, in_specs=tuple(specs), out_specs=result, check_vma=False)
        return mapped(*args)

    return run


def by_rows(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function that treats each row of a batch on its own, to run it where the rows are.

    XLA does not split some operations by rows (`top_k` for example), and would send the whole batch
    to every device.

    Args:
      function: takes arrays [B,...], and returns arrays [B,...].

    Returns:
      A function of the whole arrays.
    """

    def run(*args):
        if data_size() == 1:
            return function(*args)
        rows = PartitionSpec("data")
        return jax.shard_map(function, in_specs=rows, out_specs=rows, check_vma=False)(*args)

    return run


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device of a mesh holds in whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch, whose rows are split over the mesh axis `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def param_shardings(
    mesh: Mesh, boxed: Mapping[str, Any], rules: Sequence[tuple[str, str]]
) -> dict[str, NamedSharding]:
    """Chooses a sharding for every parameter.

    Args:
      mesh: from `make_mesh`.
      boxed: the model's abstract parameter tree, whose leaves carry logical axis names.
      rules: `[(regex, strategy), ...]`, of which the first match counts. `tensor` splits heads,
        hidden units and the vocabulary over `model`; `fsdp` splits the largest remaining dimension
        except the vocabulary over `data`; a dimension that does not divide stays whole.

    Returns:
      Shardings by flat parameter name.

    Raises:
      UserError: a strategy is unknown, or no rule matches a parameter.
    """
    flat = trees.flatten(boxed)
    strategies = trees.first_match(rules, flat, what="config.sharding")
    if unknown := set(strategies.values()) - set(STRATEGIES):
        raise UserError(f"config.sharding: {sorted(unknown)} is unknown; use {STRATEGIES}.")
    return {
        name: NamedSharding(mesh, _spec(mesh, leaf, strategies[name]))
        for name, leaf in flat.items()
    }


def _spec(mesh: Mesh, leaf: nn.Partitioned, strategy: str) -> PartitionSpec:
    shape, names = leaf.unbox().shape, leaf.names
    spec: list[str | None] = [None] * len(shape)
    if "tensor" in strategy:
        for i, name in enumerate(names):
            if name in TENSOR_AXES and shape[i] % mesh.shape["model"] == 0:
                spec[i] = "model"
                break
    if "fsdp" in strategy:
        # The scanned axis is never split, because each step of the scan reads one slice of it. Nor
        # is the vocabulary, because tokens would look up rows that lie on other devices.
        free = [i for i, s in enumerate(spec) if s is None and names[i] not in ("layers", "vocab")]
        free = [i for i in free if shape[i] % mesh.shape["data"] == 0]
        if free:
            spec[max(free, key=lambda i: shape[i])] = "data"
    return PartitionSpec(*spec)


def to_device(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Puts a process's rows [B_local,...] into global arrays [B,...], split over `data`."""
    sharding = batch_sharding(mesh)
    return {
        k: jax.make_array_from_process_local_data(sharding, np.asarray(v)) for k, v in batch.items()
    }
