"""Builds the training step that a config describes; neither parameters nor data need exist."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from pgjax import sharding
from pgjax.config import ScheduleConfig, to_dict
from pgjax.errors import UserError
from pgjax.loading.model_context import Flat, ShardedModel
from pgjax.loading.quantize_on_load import abstract_param
from pgjax.loading.storage import storage_dtypes
from pgjax.models.loss import make_loss
from pgjax.training.optimizer import make_optimizer, split_trainable
from pgjax.training.schedules import Schedule, make_schedule
from pgjax.training.state import TrainState, abstract_state, create_state
from pgjax.training.step import make_train_step


@dataclasses.dataclass(frozen=True)
class TrainStepBuilder:
    """Builds the training step of a config, its state, and the shapes of both.

    Attributes:
      sharded: the model and its mesh.
      storage: by parameter name, how it is stored: a dtype, or int8, int4 or nf4.
      multipliers: the learning-rate multiplier of each trainable parameter, by name.
      schedule: the factor of the learning rate by step.
      tx: the optimizer.
    """

    sharded: ShardedModel
    storage: dict[str, str]
    multipliers: dict[str, float]
    schedule: Schedule
    tx: optax.GradientTransformation

    @property
    def scaled(self) -> bool:
        """Whether the loss is scaled, because gradients pass through float16."""
        model, names = self.sharded.model, self.multipliers
        return (
            model.llm_dtype == jnp.float16
            or (model.img_dtype == jnp.float16 and any(n.startswith("img/") for n in names))
            or any(self.storage[n] == "float16" for n in names)
        )

    def state(self, trainable: Flat) -> TrainState:
        """Creates the state of step 0, given the trainable parameters by name."""
        sharded = self.sharded
        seed = sharded.config.seed
        return create_state(trainable, self.tx, sharded.mesh, seed, scaled=self.scaled)

    def abstract(self) -> tuple[TrainState, dict[str, Any]]:
        """Returns shapes, dtypes and shardings of the state and of the frozen parameters."""
        sharded = self.sharded
        params = {
            name: abstract_param(name, shape, self.storage[name], sharded.shardings[name])
            for name, shape in sharded.shapes.items()
        }
        trainable = {name: params.pop(name) for name in self.multipliers}
        return abstract_state(trainable, self.tx, sharded.mesh, scaled=self.scaled), params

    def lower(
        self,
        state: TrainState,
        frozen: Flat,
        batch: Mapping[str, jax.Array | jax.ShapeDtypeStruct],
    ) -> jax.stages.Lowered:
        """Traces the step for arguments, or for their shapes with shardings; it donates the state.

        Args:
          state: the state, see `state` and `abstract`.
          frozen: the frozen parameters by name.
          batch: a batch of `config.input.batch_size` examples over all processes.
        """
        config, model, mesh = self.sharded.config, self.sharded.model, self.sharded.mesh
        loss = make_loss(model, label_smoothing=config.label_smoothing, chunk=config.loss_chunk)
        step = make_train_step(
            loss,
            self.tx,
            self.schedule,
            accumulate=config.grad_accum_steps,
            dropout=model.has_dropout,
        )
        state_shardings = jax.tree.map(lambda x: x.sharding, state)
        shardings = (state_shardings, sharding.replicated(mesh))
        with self.sharded.traced():
            jitted = jax.jit(step, donate_argnums=0, out_shardings=shardings)
            return jitted.lower(state, frozen, batch)


def make_step_builder(sharded: ShardedModel, total_steps: int) -> TrainStepBuilder:
    """Opens the builder of a config's training step, for a run of `total_steps` updates.

    Raises:
      UserError: a rule of `trainable` or of the optimizer matches no parameter, every parameter is
        frozen, the optimizer is unknown, or `quantize` finds nothing to quantize.
    """
    config, names = sharded.config, list(sharded.shapes)
    multipliers = split_trainable(config.trainable, names)
    schedule = _schedule(config.schedule, total_steps)
    optimizer = config.optimizer
    tx = make_optimizer(
        name=optimizer.name,
        lr=optimizer.lr,
        schedule=schedule,
        lr_multipliers=multipliers,
        names=names,
        weight_decay=optimizer.weight_decay,
        decay_rules=optimizer.decay_rules,
        grad_clip_norm=optimizer.grad_clip_norm or None,
        args=optimizer.args,
    )
    storage = storage_dtypes(sharded, multipliers)
    if config.quantize and config.quantize not in storage.values():
        raise UserError(
            f"config.quantize is {config.quantize!r}, but there is nothing to quantize, because "
            "every matrix is trainable or too small; expected frozen matrices, or ''."
        )
    return TrainStepBuilder(sharded, storage, multipliers, schedule, tx)


def _schedule(config: ScheduleConfig, total_steps: int) -> Schedule:
    spec = to_dict(config)
    del spec["warmup_percent" if config.warmup_steps else "warmup_steps"]
    return make_schedule(total_steps=total_steps, **spec)
