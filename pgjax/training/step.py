"""The training step, a pure function of state, frozen parameters and batch."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from pgjax.training.optimizer import apply_optimizer
from pgjax.training.policy_gradient import answer_weights
from pgjax.training.schedules import Schedule
from pgjax.training.state import LossScale, TrainState

Flat = dict[str, jax.Array]
StepMetrics = dict[str, jax.Array]
GROW_AFTER = 1000  # finite updates after which the loss scale doubles


def make_train_step(
    loss: Callable[..., Any],
    tx: optax.GradientTransformation,
    schedule: Schedule,
    *,
    accumulate: int = 1,
    dropout: bool = False,
) -> Callable[[TrainState, Flat, Flat], tuple[TrainState, StepMetrics]]:
    """Builds `step(state, frozen, batch) -> (state, metrics)`; frozen parameters get no gradient.

    A batch with `advantage` [B] holds answers of the model, see `pgjax.training.rewarded`.

    If the state has a loss scale, an update whose gradient is not finite is skipped and halves the
    scale, and `GROW_AFTER` finite updates double it (Micikevicius et al., arXiv:1710.03740).

    Args:
      loss: the loss, from `pgjax.models.loss.make_loss`.
      tx: the optimizer, from `make_optimizer`.
      schedule: the factor of the learning rate by step, which is only reported here.
      accumulate: the number of parts into which the batch is cut, and whose gradients are added.
      dropout: whether the loss gets a random key, by which dropout is on.
    """
    value_and_grad = jax.value_and_grad(loss, has_aux=True)

    def step(state: TrainState, frozen: Flat, batch: Flat) -> tuple[TrainState, StepMetrics]:
        rows = batch["text"].shape[0]
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        even = jnp.full((rows // accumulate,), 1.0 / rows, jnp.float32)
        if "advantage" in batch:
            batch = {**batch, "weight": answer_weights(batch)}

        def part(index: jax.Array | int, batch: Flat) -> tuple[jax.Array, Flat]:
            weight = batch.get("weight", even)
            if state.scale is not None:
                weight *= state.scale.value  # scales the loss before it is differentiated
            part_key = jax.random.fold_in(key, index) if dropout else None
            (value, _), grads = value_and_grad(state.params, frozen, batch, weight, part_key)
            return value, grads

        if accumulate == 1:
            value, grads = part(0, batch)
        else:
            value, grads = _accumulate(part, batch, state.params, accumulate)
        if state.scale is not None:
            value, grads = _unscale(state.scale, value, grads)
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


def _accumulate(
    part: Callable[[jax.Array, Flat], tuple[jax.Array, Flat]],
    batch: Flat,
    params: Flat,
    count: int,
) -> tuple[jax.Array, Flat]:
    """Adds up loss and gradients of the parts of a batch, one part after the other.

    Args:
      part: returns the loss and the gradients of a part, given its number and its rows.
      batch: arrays [B, ...] by name.
      params: the trainable parameters, whose dtypes the gradients get in the end.
      count: the number of parts.
    """
    # Part i takes rows i, i+n, …, so that every device works on every part.
    parts = jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), batch)
    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)

    def add(total: Any, xs: tuple[jax.Array, Flat]) -> tuple[Any, None]:
        value, grads = part(*xs)
        grads = jax.tree.map(lambda g: g.astype(jnp.float32), grads)
        return jax.tree.map(jnp.add, total, (value, grads)), None

    indices = jnp.arange(count, dtype=jnp.int32)
    (value, grads), _ = jax.lax.scan(add, (jnp.float32(0), zeros), (indices, parts))
    # The optimizer's moments must keep their dtype.
    return value, jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params)


def _unscale(scale: LossScale, value: jax.Array, grads: Flat) -> tuple[jax.Array, Flat]:
    """Divides the loss and its gradients by the loss scale, in float32."""
    unscaled = {n: (g.astype(jnp.float32) / scale.value).astype(g.dtype) for n, g in grads.items()}
    return value / scale.value, unscaled


def _update(
    tx: optax.GradientTransformation, grads: Flat, params: Flat, opt_state: Any
) -> tuple[Flat, Any, jax.Array]:
    """Returns new parameters, the new state of the optimizer, and the norm of the update."""
    params, opt_state, updates = apply_optimizer(tx, grads, opt_state, params)
    return params, opt_state, optax.global_norm(updates)


def _skip(params: Flat, opt_state: Any) -> tuple[Flat, Any, jax.Array]:
    """Returns what `_update` returns, for an update that changes nothing."""
    return params, opt_state, jnp.float32(0)


def _next_scale(scale: LossScale, finite: jax.Array) -> LossScale:
    """Returns the loss scale after an update whose gradients were finite or not."""
    good = jnp.where(finite, scale.good + 1, 0)
    grow = good >= GROW_AFTER
    value = jnp.where(finite, jnp.where(grow, 2.0, 1.0), 0.5) * scale.value
    return LossScale(
        value=jnp.maximum(value, 1.0),
        good=jnp.where(grow, 0, good),
        skipped=jnp.where(finite, 0, scale.skipped + 1),
    )
