"""The training step, a pure function of state, frozen parameters and batch."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from pgjax.training.optimizer import apply_optimizer
from pgjax.training.state import LossScale, TrainState

Flat = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
GROW_AFTER = 1000  # finite updates after which the loss scale doubles


def make_train_step(
    loss: Callable,
    tx: optax.GradientTransformation,
    schedule: Callable,
    *,
    accumulate: int = 1,
    dropout: bool = False,
) -> Callable[[TrainState, Flat, Flat], tuple[TrainState, Metrics]]:
    """Builds `step(state, frozen, batch) -> (state, metrics)`; frozen leaves have no gradient.

    If the state has a loss scale, an update whose gradient is not finite is skipped and halves the
    scale; after `GROW_AFTER` finite updates it doubles (Micikevicius et al., arXiv:1710.03740).

    Args:
      loss: from `pgjax.models.loss.make_loss`.
      tx: from `make_optimizer`.
      schedule: factor of the learning rate by step, which the step only reports.
      accumulate: number of parts into which the batch is cut; their gradients are added.
      dropout: draw a random key in each step, which switches dropout on.
    """

    def step(state: TrainState, frozen: Flat, batch: Flat) -> tuple[TrainState, Metrics]:
        rows = batch["text"].shape[0]
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        weight = jnp.full((rows // accumulate,), 1.0 / rows, jnp.float32)
        if state.scale is not None:
            weight *= state.scale.value  # scales the loss before it is differentiated
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

        if state.scale is not None:
            value = value / state.scale.value
            grads = {
                n: (g.astype(jnp.float32) / state.scale.value).astype(g.dtype)
                for n, g in grads.items()
            }
        norm, scale = optax.global_norm(grads), None
        update = functools.partial(_update, tx, grads)
        if state.scale is None:
            params, opt_state, updates_norm = update(state.params, state.opt_state)
        else:
            finite = jnp.isfinite(norm) & jnp.isfinite(value)
            params, opt_state, updates_norm = jax.lax.cond(
                finite, update, _skip, state.params, state.opt_state
            )
            scale = _next_scale(state.scale, finite)
        metrics = {
            "loss": value,
            "lr_factor": schedule(state.step),
            "l2_grads": norm,
            "l2_params": optax.global_norm(params),
            "l2_updates": updates_norm,
        }
        if state.scale is not None and scale is not None:
            metrics |= {"loss_scale": state.scale.value, "skipped": scale.skipped}
        return TrainState(params, opt_state, state.step + 1, state.key, scale), metrics

    return step


def _update(tx, grads, params, opt_state):
    params, opt_state, updates = apply_optimizer(tx, grads, opt_state, params)
    return params, opt_state, optax.global_norm(updates)


def _skip(params, opt_state):
    return params, opt_state, jnp.float32(0)


def _next_scale(scale: LossScale, finite: jax.Array) -> LossScale:
    good = jnp.where(finite, scale.good + 1, 0)
    grow = good >= GROW_AFTER
    value = jnp.where(finite, jnp.where(grow, 2.0, 1.0), 0.5) * scale.value
    return LossScale(
        value=jnp.maximum(value, 1.0),
        good=jnp.where(grow, 0, good),
        skipped=jnp.where(finite, 0, scale.skipped + 1),
    )
