"""The training step: a pure function of state, frozen parameters and batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from pgjax.training.optimizer import apply_optimizer
from pgjax.training.state import TrainState

Flat = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def make_train_step(
    loss: Callable,
    tx: optax.GradientTransformation,
    schedule: Callable,
    *,
    accumulate: int = 1,
    dropout: bool = False,
) -> Callable[[TrainState, Flat, Flat], tuple[TrainState, Metrics]]:
    """Builds `step(state, frozen, batch) -> (state, metrics)`; frozen leaves have no gradient.

    Args:
      loss: from `pgjax.models.loss.make_loss`.
      tx: from `make_optimizer`.
      schedule: for reporting only.
      accumulate: parts the batch is worked through in; their gradients are added.
      dropout: draw a key per step.
    """

    def step(state: TrainState, frozen: Flat, batch: Flat) -> tuple[TrainState, Metrics]:
        rows = batch["text"].shape[0]
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        weight = jnp.full((rows // accumulate,), 1.0 / rows, jnp.float32)
        value_and_grad = jax.value_and_grad(loss, has_aux=True)

        def part(index, batch):
            part_key = jax.random.fold_in(key, index) if dropout else None
            (value, _), grads = value_and_grad(state.params, frozen, batch, weight, part_key)
            return value, grads

        if accumulate == 1:
            value, grads = part(0, batch)
        else:
            # Part i takes rows i, i+n, …, so that every device works on every part.
            parts = jax.tree.map(
                lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch
            )
            zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), state.params)

            def add(total, xs):
                value, grads = part(*xs)
                grads = jax.tree.map(lambda g: g.astype(jnp.float32), grads)
                return jax.tree.map(jnp.add, total, (value, grads)), None

            indices = jnp.arange(accumulate, dtype=jnp.int32)
            (value, grads), _ = jax.lax.scan(add, (jnp.float32(0), zeros), (indices, parts))
            # The optimizer's moments must keep their dtype.
            grads = jax.tree.map(lambda g, p: g.astype(p.dtype), grads, state.params)

        params, opt_state, updates = apply_optimizer(tx, grads, state.opt_state, state.params)
        metrics = {
            "loss": value,
            "lr_factor": schedule(state.step),
            "l2_grads": optax.global_norm(grads),
            "l2_params": optax.global_norm(params),
            "l2_updates": optax.global_norm(updates),
        }
        return TrainState(params, opt_state, state.step + 1, state.key), metrics

    return step
