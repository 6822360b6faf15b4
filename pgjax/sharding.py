"""The device mesh, and where every parameter and batch lives on it.

One mesh with two axes serves everything: `data` splits the batch (and, under fsdp, parameters),
`model` splits heads, hidden units and the vocabulary. A single device is a mesh of one.
"""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from pgjax import trees
from pgjax.errors import UserError

# Logical axes of parameters that the `model` mesh axis may split.
TENSOR_AXES = ("heads", "mlp", "vocab")
# Logical axes of activations.
ACTIVATION_RULES = (("batch", "data"), ("seq", None), ("act_embed", None))
STRATEGIES = ("replicate", "fsdp", "tensor", "fsdp+tensor")


def make_mesh(
    data: int = -1, model: int = 1, *, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """A mesh over all devices of all processes, or over some; -1 takes what the other axis leaves.

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
            "must equal the number of devices (-1: whatever is left)."
        )
    axes = ("data", "model"), (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh(tuple(sizes), *axes, devices=devices)


@contextlib.contextmanager
def use_mesh(mesh: Mesh) -> Iterator[None]:
    """Makes the models' activation constraints refer to this mesh while tracing."""
    with warnings.catch_warnings():
        # Under jax.set_mesh flax would also constrain parameters inside its scanned layers, where
        # their names and ranks disagree.
        warnings.simplefilter("ignore", DeprecationWarning)
        with mesh, nn.logical_axis_rules(ACTIVATION_RULES):
            yield


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds all of it."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows are split over `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def param_shardings(
    mesh: Mesh, boxed: Mapping[str, Any], rules: Sequence[tuple[str, str]]
) -> dict[str, NamedSharding]:
    """A sharding for every parameter.

    Args:
      mesh: from `make_mesh`.
      boxed: the model's abstract tree, whose leaves carry logical axis names.
      rules: `[(regex, strategy), ...]`, first match wins. `tensor` splits heads, hidden units
        and the vocabulary over `model`; `fsdp` splits the largest remaining dimension over
        `data`; what does not divide stays whole.

    Raises:
      UserError: an unknown strategy, or a parameter that no rule matches.
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
        # Never the scanned axis: each step of the scan reads one slice of it.
        free = [i for i, s in enumerate(spec) if s is None and names[i] != "layers"]
        free = [i for i in free if shape[i] % mesh.shape["data"] == 0]
        if free:
            spec[max(free, key=lambda i: shape[i])] = "data"
    return PartitionSpec(*spec)


def to_device(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Puts this process's rows [B_local,...] into global arrays [B,...], split over `data`."""
    sharding = batch_sharding(mesh)
    return {
        k: jax.make_array_from_process_local_data(sharding, np.asarray(v)) for k, v in batch.items()
    }
