"""Learning-rate schedules, as factors of the base learning rate."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgjax.errors import UserError

Schedule = Callable[[jax.Array], jax.Array]
DECAYS = ("constant", "cosine", "linear", "rsqrt")


def make_schedule(
    *,
    total_steps: int,
    decay: str = "cosine",
    base: float = 1.0,
    warmup_steps: int | None = None,
    warmup_percent: float | None = None,
    cooldown_steps: int = 0,
    linear_end: float = 0.0,
    timescale: float = 10_000.0,
    first_step: int = 0,
) -> Schedule:
    """Builds a schedule: a warm-up from 0, a decay, and an optional linear cool-down to 0.

    Args:
      total_steps: the number of updates in the whole run.
      decay: `constant`; `cosine` to 0; `linear` to `linear_end`; or `rsqrt`, which falls as the
        inverse square root of the step with the given timescale.
      base: the value after warm-up.
      warmup_steps: the length of the warm-up in steps; excludes `warmup_percent`.
      warmup_percent: the length of the warm-up as a share of `total_steps`, in 0..1, rounded down.
      cooldown_steps: the length of the linear cool-down at the end.
      linear_end: the value at which `linear` ends.
      timescale: the number of steps after which `rsqrt` has fallen to base/√2.
      first_step: the schedule's position at the first update. The reference counts from 0 in its
        trainer, and from 1 in its notebook.

    Returns:
      A function from the number of updates so far, an int32 scalar, to the float32 value.

    Raises:
      UserError: the decay is unknown, both forms of warm-up are given, or warm-up and cool-down are
        longer than the run.
    """
    if decay not in DECAYS:
        raise UserError(f"config.schedule.decay is {decay!r}, expected one of {DECAYS}.")
    if warmup_steps is not None and warmup_percent is not None:
        raise UserError(
            "config.schedule has both warmup_steps and warmup_percent, expected one of them."
        )
    warmup = warmup_steps or int(total_steps * (warmup_percent or 0.0))
    if min(warmup, cooldown_steps) < 0 or warmup + cooldown_steps > total_steps:
        raise UserError(
            f"config.schedule has {warmup} steps of warm-up and {cooldown_steps} of cool-down, "
            f"expected no more than the {total_steps} steps of the run."
        )

    def schedule(count: jax.Array) -> jax.Array:
        step = jnp.asarray(count, jnp.float32) + first_step
        progress = jnp.clip((step - warmup) / max(total_steps - warmup, 1), 0.0, 1.0)
        if decay == "cosine":
            value = base * 0.5 * (1.0 + jnp.cos(math.pi * progress))
        elif decay == "linear":
            value = linear_end + (base - linear_end) * (1.0 - progress)
        elif decay == "rsqrt":
            value = base * jnp.sqrt(timescale / (timescale + jnp.maximum(step - warmup, 0.0)))
        else:
            value = jnp.full_like(step, base)
        if warmup:
            value *= jnp.minimum(1.0, step / warmup)
        if cooldown_steps:
            value *= jnp.clip((total_steps - step) / cooldown_steps, 0.0, 1.0)
        return value

    return schedule
