"""The training step that a config describes, before there is a parameter or an example."""

import dataclasses
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
    """What trains and how, on a mesh."""

    sharded: ShardedModel
    storage: dict[str, str]  # how each parameter is stored: a dtype, or int8, int4, nf4
    multipliers: dict[str, float]  # of the learning rate, by trainable name
    schedule: Schedule
    tx: optax.GradientTransformation

    @property
    def scaled(self) -> bool:
        """Whether a gradient passes through float16, so that the loss is scaled."""
        model, names = self.sharded.model, self.multipliers
        return (
            model.llm_dtype == jnp.float16
            or (model.img_dtype == jnp.float16 and any(n.startswith("img/") for n in names))
            or any(self.storage[n] == "float16" for n in names)
        )

    def state(self, trainable: Flat) -> TrainState:
        """The state at step 0."""
        sharded = self.sharded
        seed = sharded.config.seed
        return create_state(trainable, self.tx, sharded.mesh, seed, scaled=self.scaled)

    def abstract(self) -> tuple[TrainState, dict[str, Any]]:
        """Shapes, dtypes and shardings of the state and of the frozen parameters."""
        sharded = self.sharded
        params = {
            name: abstract_param(name, shape, self.storage[name], sharded.shardings[name])
            for name, shape in sharded.shapes.items()
        }
        trainable = {name: params.pop(name) for name in self.multipliers}
        return abstract_state(trainable, self.tx, sharded.mesh, scaled=self.scaled), params

    def lower(self, state: TrainState, frozen: Flat, batch: Flat) -> jax.stages.Lowered:
        """The step for these arguments, or for their shapes; the state is donated."""
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
    """The program of a config for a run of `total_steps` updates.

    Raises:
      UserError: rules that match nothing, an unknown optimizer, …
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
    kept = storage_dtypes(sharded, multipliers)
    if config.quantize and config.quantize not in kept.values():
        raise UserError(
            f"config.quantize is {config.quantize!r}, but it quantizes nothing: every matrix that "
            "it would take trains, or is too small; expected frozen matrices, or ''."
        )
    return TrainStepBuilder(sharded, kept, multipliers, schedule, tx)


def _schedule(config: ScheduleConfig, total_steps: int) -> Schedule:
    spec = to_dict(config)
    del spec["warmup_percent" if config.warmup_steps else "warmup_steps"]
    return make_schedule(total_steps=total_steps, **spec)
