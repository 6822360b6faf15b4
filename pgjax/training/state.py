"""The state that training steps pass on; frozen parameters are not part of it."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from pgjax import sharding


@flax.struct.dataclass
class LossScale:
    """The factor of the loss that keeps float16 gradients from vanishing and from overflowing."""

    value: jax.Array  # float32 scalar
    good: jax.Array  # int32 scalar, number of finite updates since the value last changed
    skipped: jax.Array  # int32 scalar, number of updates skipped in a row


@flax.struct.dataclass
class TrainState:
    """What changes while a run trains; frozen parameters are a separate argument of the step.

    Attributes:
      params: the trainable parameters by name.
      opt_state: the optimizer's state.
      step: int32 scalar, the number of updates so far.
      key: uint32 key data of the random key, into which each step folds its number.
      scale: the loss scale; None unless gradients pass through float16.
    """

    params: dict[str, jax.Array]
    opt_state: Any
    step: jax.Array
    key: jax.Array
    scale: LossScale | None = None


def resumable_state(state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds beside the parameters."""
    train = {"opt_state": state.opt_state, "step": state.step, "key": state.key}
    return train if state.scale is None else train | {"scale": state.scale}


def abstract_state(
    params: Mapping[str, Any],
    tx: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    *,
    scaled: bool = False,
) -> TrainState:
    """Returns shapes, dtypes and shardings of a state; moments are sharded like their parameters.

    Args:
      params: the trainable parameters by name, or their shapes with shardings.
      tx: the optimizer.
      mesh: the mesh, over which the rest of the state is replicated.
      scaled: whether the state has a loss scale.
    """
    opt_state = jax.tree_util.tree_map_with_path(
        lambda path, x: _placed(x, _moment_sharding(path, x, params, mesh)),
        jax.eval_shape(tx.init, params),
    )
    rest = jax.eval_shape(functools.partial(_rest, 0, scaled))
    everywhere = sharding.replicated(mesh)
    rest = jax.tree.map(lambda x: _placed(x, everywhere), rest)
    params = {name: _placed(x, x.sharding) for name, x in params.items()}
    return TrainState(params, opt_state, *rest)


def create_state(
    params: dict[str, jax.Array],
    tx: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    seed: int,
    *,
    scaled: bool = False,
) -> TrainState:
    """Creates the state of step 0, with the shardings of `abstract_state`.

    Args:
      params: the trainable parameters by name.
      tx: the optimizer.
      mesh: the mesh on which the parameters lie.
      seed: the seed of the random key, which dropout draws from.
      scaled: whether the state has a loss scale.
    """
    abstract = abstract_state(params, tx, mesh, scaled=scaled)
    where = jax.tree.map(lambda x: x.sharding, abstract)
    opt_state = jax.jit(tx.init, out_shardings=where.opt_state)(params)
    rest = jax.device_put(_rest(seed, scaled), (where.step, where.key, where.scale))
    return TrainState(params, opt_state, *rest)


def _rest(seed: int, scaled: bool) -> tuple[jax.Array, jax.Array, LossScale | None]:
    """Returns the state's step, key and loss scale at step 0."""
    key = jax.random.key_data(jax.random.key(seed))
    scale = LossScale(jnp.float32(2**15), jnp.int32(0), jnp.int32(0)) if scaled else None
    return jnp.int32(0), key, scale


def _placed(x: Any, where: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)


def _moment_sharding(
    path: tuple[Any, ...],
    moment: jax.ShapeDtypeStruct,
    params: Mapping[str, Any],
    mesh: jax.sharding.Mesh,
) -> jax.sharding.Sharding:
    """Returns a moment's sharding: that of its parameter along the axes that both have.

    Args:
      path: where the moment is in the optimizer's state, with the parameter's name as a key.
      moment: the moment's shape.
      params: the trainable parameters by name.
      mesh: the mesh, over which anything else is replicated.
    """
    keys = [k.key for k in path if isinstance(k, jax.tree_util.DictKey)]
    name = next((k for k in keys if k in params), None)
    if name is None or moment.ndim != params[name].ndim:
        return sharding.replicated(mesh)
    where = params[name].sharding
    if moment.shape == params[name].shape:
        return where
    if not isinstance(where, NamedSharding):
        return sharding.replicated(mesh)
    spec = [
        axis if axis is not None and size % mesh.shape[axis] == 0 else None
        for axis, size in zip(where.spec, moment.shape, strict=False)
    ]
    return NamedSharding(mesh, PartitionSpec(*spec))
