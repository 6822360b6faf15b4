"""Optimizers, as optax chains over the flat dict of trainable parameters."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from pgjax import trees
from pgjax.errors import UserError
from pgjax.models.variants import float_dtype
from pgjax.registry import OPTIMIZERS
from pgjax.training.adam8bit import scale_by_adam8bit
from pgjax.training.schedules import Schedule

Flat = Mapping[str, jax.Array]


@OPTIMIZERS.register("adafactor")
def _adafactor(
    *,
    min_dim_size_to_factor: int = 32,
    decay_rate: float = 0.8,
    clipping_threshold: float = 1.0,
    momentum: float | None = None,
) -> optax.GradientTransformation:
    """Adafactor (arXiv:1804.04235) with factored second moments and update clipping."""
    return optax.chain(
        optax.scale_by_factored_rms(
            min_dim_size_to_factor=min_dim_size_to_factor, decay_rate=decay_rate
        ),
        optax.clip_by_block_rms(clipping_threshold),
        optax.identity() if momentum is None else optax.ema(momentum, debias=False),
    )


@OPTIMIZERS.register("momentum")
def _momentum(
    *, momentum: float = 0.9, nesterov: bool = False, mu_dtype: jnp.dtype | None = None
) -> optax.GradientTransformation:
    """Gradient descent with momentum, which is stored in `mu_dtype`."""
    return optax.trace(momentum, nesterov=nesterov, accumulator_dtype=mu_dtype)


@OPTIMIZERS.register("adam")
@OPTIMIZERS.register("adamw")
def _adam(*, nu_dtype: jnp.dtype | None = None, **args: Any) -> optax.GradientTransformation:
    """Adam (arXiv:1412.6980) with moments in `mu_dtype` and `nu_dtype`, else as the parameters."""
    adam = optax.scale_by_adam(**args)
    if nu_dtype is None:
        return adam
    if nu_dtype != jnp.bfloat16:
        raise UserError(f"config.optimizer.args.nu_dtype is {nu_dtype}, expected bfloat16.")

    def with_nu(state: optax.ScaleByAdamState, nu: Flat) -> optax.ScaleByAdamState:
        return state._replace(nu=cast(optax.Updates, nu))

    def init(params: optax.Params) -> optax.OptState:
        state = cast(optax.ScaleByAdamState, adam.init(params))
        nu = cast(Flat, state.nu)
        return with_nu(state, {n: x.astype(nu_dtype) for n, x in nu.items()})

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        grads, state = cast(Flat, updates), cast(optax.ScaleByAdamState, state)
        wide = {n: x.astype(jnp.float32) for n, x in cast(Flat, state.nu).items()}
        updates, state = cast(
            tuple[optax.Updates, optax.ScaleByAdamState],
            adam.update(updates, with_nu(state, wide), params),
        )
        key = jax.random.fold_in(jax.random.key(0), state.count)
        nu = {
            n: _round_randomly(x, jax.random.fold_in(key, i))
            for i, (n, x) in enumerate(sorted(cast(Flat, state.nu).items()))
        }
        steps = {n: u.astype(grads[n].dtype) for n, u in cast(Flat, updates).items()}
        return steps, with_nu(state, nu)

    return optax.GradientTransformation(init, update)


def _round_randomly(x: jax.Array, key: jax.Array) -> jax.Array:
    """Rounds float32 to bfloat16 stochastically, so that rounding errors have mean 0.

    If it were rounded to the nearest value, the second moment could never fall: a step makes it at
    most 0.1 % smaller, and neighbouring bfloat16 values are 0.4 % apart.
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    bits += jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    x = jax.lax.bitcast_convert_type(bits & jnp.uint32(0xFFFF0000), jnp.float32)
    return x.astype(jnp.bfloat16)


OPTIMIZERS.register("adam8bit")(scale_by_adam8bit)
OPTIMIZERS.register("sgd")(optax.identity)


def split_trainable(
    rules: Sequence[tuple[str, bool | float]], names: Sequence[str]
) -> dict[str, float]:
    """Returns the learning-rate multiplier of each trainable parameter; frozen ones are left out.

    Args:
      rules: `[(regex, value), ...]`. The first rule that matches a name counts: False or 0 freezes
        the parameter, True trains it, and a number also multiplies its learning rate.
      names: the names of all parameters.

    Raises:
      UserError: no rule matches a name, a rule matches no name, a value is not a multiplier, or
        every parameter is frozen.
    """
    values = trees.first_match(rules, names, what="config.trainable")
    if bad := {repr(v) for v in values.values() if not _is_multiplier(v)}:
        raise UserError(
            f"config.trainable has the values {sorted(bad)}, expected True, False or learning-rate "
            "multipliers of at least 0."
        )
    multipliers = {name: float(v) for name, v in values.items() if v}
    if not multipliers:
        raise UserError("config.trainable freezes every parameter, so nothing would be trained.")
    return multipliers


def _is_multiplier(value: Any) -> bool:
    return isinstance(value, bool | int | float) and 0 <= value < float("inf")


def make_optimizer(
    *,
    name: str,
    lr: float,
    schedule: Schedule,
    lr_multipliers: Mapping[str, float],
    names: Sequence[str],
    weight_decay: float = 0.0,
    decay_rules: Sequence[tuple[str, float]] = (("img/.*/kernel", 1.0), (".*", 0.0)),
    grad_clip_norm: float | None = None,
    args: Mapping[str, Any] | None = None,
) -> optax.GradientTransformation:
    """Chains clipping, optimizer, learning rate, weight decay, schedule and sign, in this order.

    Weight decay is scaled by the schedule and not by the learning rate, as in the published
    recipes; `adamw` scales it by both (Loshchilov & Hutter, arXiv:1711.05101).

    Args:
      name: the optimizer's name in `OPTIMIZERS`.
      lr: the base learning rate.
      schedule: the factor of both learning rate and weight decay, by the number of updates so far.
      lr_multipliers: the multiplier of each trainable parameter, from `split_trainable`.
      names: the names of all parameters, frozen ones too, for which `decay_rules` are written.
      weight_decay: the base weight decay.
      decay_rules: `[(regex, multiplier), ...]`, by which `weight_decay` is multiplied.
      grad_clip_norm: the global norm to which gradients are clipped; None does not clip them.
      args: further arguments of the optimizer, such as `b2`.

    Raises:
      UserError: the optimizer or an argument is unknown, or a decay rule matches no name.
    """
    optimizer = OPTIMIZERS.find(name, "config.optimizer.name")
    args = dict(args or {})
    for key in ("mu_dtype", "nu_dtype"):
        if args.get(key):
            args[key] = float_dtype(args[key], f"config.optimizer.args.{key}")
    try:
        core = optimizer(**args)
    except TypeError as e:
        raise UserError(f"config.optimizer.args {args} do not fit {name!r}: {e}.") from None
    decay = trees.first_match(decay_rules, names, what="config.optimizer.decay_rules")
    decayed = {n: weight_decay * decay[n] for n in lr_multipliers if weight_decay * decay[n]}
    chain = [core]
    if grad_clip_norm is not None:
        chain.insert(0, _clip(grad_clip_norm))
    if name == "adamw" and decayed:
        chain.append(_add_decay(decayed))
    chain.append(_scale({n: lr * m for n, m in lr_multipliers.items()}))
    if name != "adamw" and decayed:
        chain.append(_add_decay(decayed))
    chain.append(optax.scale_by_schedule(lambda count: -schedule(cast(jax.Array, count))))
    return optax.chain(*chain)


def _clip(most: float) -> optax.GradientTransformation:
    """Clips by the global norm, as a product that compilers fuse with the following operations."""

    def clip(updates: optax.Updates, _: optax.Params | None) -> optax.Updates:
        factor = most / jnp.maximum(optax.global_norm(updates), most)
        return {n: u * factor.astype(u.dtype) for n, u in cast(Flat, updates).items()}

    return optax.stateless(clip)


def _scale(factors: Mapping[str, float]) -> optax.GradientTransformation:
    def scale(updates: optax.Updates, _: optax.Params | None) -> optax.Updates:
        flat = cast(Flat, updates)
        return {n: u * jnp.asarray(factors[n], u.dtype) for n, u in flat.items()}

    return optax.stateless(scale)


def _add_decay(decay: Mapping[str, float]) -> optax.GradientTransformation:
    def add(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        flat = cast(Flat, params)
        return {
            n: u + jnp.asarray(decay[n], u.dtype) * flat[n] if n in decay else u
            for n, u in cast(Flat, updates).items()
        }

    return optax.stateless(add)


def apply_optimizer(
    tx: optax.GradientTransformation, grads: Flat, opt_state: Any, params: Flat
) -> tuple[dict[str, jax.Array], Any, dict[str, jax.Array]]:
    """Applies one update of the optimizer.

    Args:
      tx: the optimizer, from `make_optimizer`.
      grads: the gradients, by parameter name.
      opt_state: the optimizer's state.
      params: the trainable parameters, by name.

    Returns:
      The new parameters, the new state of the optimizer, and the updates that were added.
    """
    # optax promotes dtypes implicitly, which is an error elsewhere where promotion is strict.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = tx.update(cast(optax.Updates, grads), opt_state, params)
        updated = optax.apply_updates(cast(optax.Params, params), updates)
    return cast(dict[str, jax.Array], updated), opt_state, cast(dict[str, jax.Array], updates)
