"""The optimizer as a chain over the flat dict of trainable parameters."""

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
def _adafactor(*, min_dim_size_to_factor=32, decay_rate=0.8, clipping_threshold=1.0, momentum=None):
    """Adafactor (arXiv:1804.04235) with factored second moments and update clipping."""
    return optax.chain(
        optax.scale_by_factored_rms(
            min_dim_size_to_factor=min_dim_size_to_factor, decay_rate=decay_rate
        ),
        optax.clip_by_block_rms(clipping_threshold),
        optax.identity() if momentum is None else optax.ema(momentum, debias=False),
    )


@OPTIMIZERS.register("momentum")
def _momentum(*, momentum=0.9, nesterov=False, mu_dtype=None):
    return optax.trace(momentum, nesterov=nesterov, accumulator_dtype=mu_dtype)


@OPTIMIZERS.register("adam")
@OPTIMIZERS.register("adamw")
def _adam(*, nu_dtype=None, **args):
    """Adam (arXiv:1412.6980), whose moments are stored in `mu_dtype` and `nu_dtype`."""
    adam = optax.scale_by_adam(**args)
    if nu_dtype is None:
        return adam
    if nu_dtype != jnp.bfloat16:
        raise UserError(f"optimizer.args.nu_dtype is {nu_dtype}, expected bfloat16.")

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
    """Rounds float32 to bfloat16 stochastically, so that the result is right in the mean.

    Rounded to the nearest value, the second moment would never fall: a step takes away 0.1 % of it,
    and neighbouring bfloat16 values are 0.4 % apart.
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
      rules: `[(regex, value), ...]`, of which the first match counts: False or 0 freezes a
        parameter, True is a multiplier of 1, a number multiplies the learning rate.
      names: all parameter names.

    Raises:
      UserError: no rule matches a name, a rule matches no name, a value is not a multiplier, or
        every parameter is frozen.
    """
    values = trees.first_match(rules, names, what="config.trainable")
    if bad := {repr(v) for v in values.values() if not _is_multiplier(v)}:
        raise UserError(
            f"config.trainable: {sorted(bad)} is neither a truth value nor a "
            "learning-rate multiplier of at least 0."
        )
    multipliers = {name: float(v) for name, v in values.items() if v}
    if not multipliers:
        raise UserError("config.trainable freezes every parameter; nothing would be trained.")
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
      lr: base learning rate.
      schedule: factor on everything, by the count of updates so far.
      lr_multipliers: by trainable name, from `split_trainable`.
      names: all parameter names, frozen ones too, that `decay_rules` are written for.
      weight_decay: base decay.
      decay_rules: `[(regex, multiplier), ...]` on `weight_decay`.
      grad_clip_norm: largest global norm of the gradient; None for no clipping.
      args: further arguments of the optimizer, such as `b2`.

    Raises:
      UserError: unknown optimizer or argument, or decay rules that match no name.
    """
    optimizer = OPTIMIZERS.find(name, "config.optimizer.name")
    args = dict(args or {})
    for key in ("mu_dtype", "nu_dtype"):
        if args.get(key):
            args[key] = float_dtype(args[key], f"optimizer.args.{key}")
    try:
        core = optimizer(**args)
    except TypeError as e:
        raise UserError(f"config.optimizer.args {args} do not fit {name!r}: {e}.") from None
    decay = trees.first_match(decay_rules, names, what="optimizer.decay_rules")
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
    """Clips by global norm with one factor, a product that compilers fuse with what follows it."""

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
      tx: from `make_optimizer`.
      grads: gradients by parameter name.
      opt_state: state of the optimizer.
      params: trainable parameters by name.

    Returns:
      (new parameters, new optimizer state, the updates that were added).
    """
    # optax promotes dtypes implicitly, which strict numerics forbid elsewhere.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = tx.update(cast(optax.Updates, grads), opt_state, params)
        updated = optax.apply_updates(cast(optax.Params, params), updates)
    return cast(dict[str, jax.Array], updated), opt_state, cast(dict[str, jax.Array], updates)
