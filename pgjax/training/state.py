"""What a training step carries, with frozen parameters kept apart."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from pgjax import sharding


@flax.struct.dataclass
class TrainState:
    """The part of a run that changes; frozen parameters are a separate argument of the step."""

    params: dict[str, jax.Array]  # flat, trainable only
    opt_state: Any
    step: jax.Array  # int32 scalar, updates done
    key: jax.Array  # uint32 key data; dropout at a step folds the step into it


def create_state(
    params: dict[str, jax.Array],
    tx: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    seed: int,
) -> TrainState:
    """A state at step 0; optimizer moments live where their parameters live."""
    everywhere = sharding.replicated(mesh)
    where = {name: x.sharding for name, x in params.items()}
    abstract = jax.eval_shape(tx.init, params)
    shardings = optax.tree_utils.tree_map_params(
        tx,
        lambda moment, name: where[name] if moment.shape == params[name].shape else everywhere,
        abstract,
        {name: name for name in params},
        transform_non_params=lambda _: everywhere,
    )
    opt_state = jax.jit(tx.init, out_shardings=shardings)(params)
    key = jax.random.key_data(jax.random.key(seed))
    step, key = jax.device_put((jnp.int32(0), key), everywhere)
    return TrainState(params, opt_state, step, key)


def count(params: Mapping[str, Any]) -> int:
    """Number of parameters."""
    return sum(x.size for x in params.values())
