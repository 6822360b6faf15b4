"""Checks of the loss, gradients and optimizer steps."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from golden_checks.common import HALF, Check, Golden
from pgjax.conformance.differences import EXACT, RELATIVE, diff, rel
from pgjax.loading.model_context import open_sharded_model
from pgjax.models.loss import make_loss
from pgjax.recipes import adapted, default_config
from pgjax.training.optimizer import apply_optimizer, make_optimizer, split_trainable
from pgjax.training.schedules import make_schedule
from pgjax.training.state import TrainState
from pgjax.training.step_builder import TrainStepBuilder, make_step_builder


def _loss_fn(g: Golden, t: dict, smoothing: float) -> Callable:
    batch = {k: jnp.asarray(t[k]) for k in ("image", "text", "mask_ar", "mask_loss")}
    rows = batch["text"].shape[0]
    weight = jnp.full((rows,), 1 / rows, jnp.float32)
    loss = make_loss(g.model, label_smoothing=smoothing, chunk=4)
    return lambda trainable, frozen: loss(trainable, frozen, batch, weight, None)


def loss(g: Golden) -> Iterator[Check]:
    """Compares loss and gradients, with and without label smoothing."""
    t = g.load("train.npz")
    supervised = t["mask_loss"][:, 1:] > 0
    for prefix in sorted({k.split("/")[0] for k in t if k.endswith("/training_loss")}):
        value_and_grad = jax.jit(
            jax.value_and_grad(_loss_fn(g, t, float(prefix.removeprefix("ls"))), has_aux=True)
        )
        (value, tokens), grads = value_and_grad(g.flat, {})
        yield f"{prefix} loss", rel(value, t[f"{prefix}/training_loss"]), RELATIVE
        want = np.where(
            supervised, -t[f"{prefix}/token_pplx"], 0.0
        )  # The reference stores log-probabilities.
        yield f"{prefix} token losses", rel(tokens, want), RELATIVE
        per_row = np.asarray(tokens).sum(1) / np.maximum(supervised.sum(1), 1)
        yield f"{prefix} example losses", rel(per_row, t[f"{prefix}/pplx"]), RELATIVE
        total = float(t[f"{prefix}/l2_grads"])
        norm = np.sqrt(sum(np.square(np.asarray(x, np.float64)).sum() for x in grads.values()))
        yield f"{prefix} gradient norm", rel(norm, total), RELATIVE
        worst = 0.0
        for key, want in t.items():
            if key.startswith(f"{prefix}/grad_l2/"):
                got = np.linalg.norm(np.asarray(grads[key.split("grad_l2/")[1]], np.float64))
                worst = max(worst, abs(got - want) / max(want, 1e-3 * total))
            elif key.startswith(f"{prefix}/grad/"):
                got = grads[key.split("grad/")[1]]
                worst = max(worst, diff(got, want) / max(np.abs(want).max(), 1e-3 * total))
            elif key.startswith(f"{prefix}/grad_rows/"):
                name = key.split("grad_rows/")[1]
                got = grads[name][t[f"{prefix}/grad_rows_idx/{name}"]]
                worst = max(worst, rel(got, want))
        yield f"{prefix} gradients", worst, RELATIVE


def _train(g: Golden, t: dict, rules, schedule, steps: int, **optimizer):
    names = list(g.flat)
    multipliers = split_trainable(rules, names)
    trainable = {n: g.flat[n] for n in multipliers}
    frozen = {n: x for n, x in g.flat.items() if n not in multipliers}
    tx = make_optimizer(schedule=schedule, lr_multipliers=multipliers, names=names, **optimizer)
    state = tx.init(trainable)
    step = jax.jit(jax.value_and_grad(_loss_fn(g, t, 0.0), has_aux=True))
    losses, grad_norms = [], []
    for _ in range(steps):
        (value, _), grads = step(trainable, frozen)
        losses.append(value)
        grad_norms.append(np.sqrt(sum(np.square(np.asarray(x)).sum() for x in grads.values())))
        trainable, state, _ = apply_optimizer(tx, grads, state, trainable)
    (after, _), _ = step(trainable, frozen)
    return losses, grad_norms, after, {**frozen, **trainable}


def sgd(g: Golden) -> Iterator[Check]:
    """Compares three steps of the T4 recipe, `adapt=attention`.

    The frozen parameters are in the reference's float32 first, and then in the recipe's float16.
    """
    t = g.load("train.npz")
    exact = {"frozen_dtype": "float32", "model.img_dtype": "float32"}
    constant = {"schedule.decay": "constant", "schedule.warmup_percent": 0.0}
    for name, schedule in (("sgd_colab", {}), ("sgd_const", constant)):
        for precision, overrides, tolerance in (("", exact, RELATIVE), (" float16", {}, HALF)):
            builder, state, losses = _run_recipe(g, t, overrides | schedule)
            *losses, after = losses
            rates = 0.03 * np.array([builder.schedule(jnp.int32(i)) for i in range(len(losses))])
            yield f"{name}{precision} rates", rel(rates, t[f"{name}/lr"]), RELATIVE
            yield f"{name}{precision} losses", rel(losses, t[f"{name}/losses"]), tolerance
            yield f"{name}{precision} loss after", rel(after, t[f"{name}/loss_after"]), tolerance
            start = f"{name}/params/"
            wanted = {k[len(start) :]: v for k, v in t.items() if k.startswith(start)}
            same = wanted.keys() == state.params.keys() and not jax.tree.leaves(state.opt_state[0])
            yield f"{name}{precision} trains attention alone", EXACT if same else np.inf, EXACT
            worst = max(rel(state.params[n], v) for n, v in wanted.items())
            yield f"{name}{precision} parameters", worst, tolerance


def _run_recipe(
    g: Golden, t: dict, overrides: dict
) -> tuple[TrainStepBuilder, TrainState, list[float]]:
    """Returns the step builder of a config, the state after three steps, and four losses."""
    spec, config = g.manifest["model"], default_config()
    config.adapt, config.total_steps, config.model.res = "attention", 64, spec["res"]
    config.model.img, config.model.llm = ConfigDict(g.sizes["img"]), ConfigDict(g.sizes["llm"])
    config.update_from_flattened_dict(overrides)
    config = adapted(config, overrides)
    sharded = open_sharded_model(config.to_dict())
    builder = make_step_builder(sharded, config.total_steps)
    params = {
        n: jax.device_put(np.array(x, builder.storage[n]), sharded.shardings[n])
        for n, x in g.flat.items()
    }
    state = builder.state({n: params.pop(n) for n in builder.multipliers})
    batch = {k: jnp.asarray(t[k]) for k in ("image", "text", "mask_ar", "mask_loss")}
    step, losses = builder.lower(state, params, batch).compile(), []
    for _ in range(3):
        state, values = step(state, params, batch)
        losses.append(float(values["loss"]))
    after = jax.tree.map(jnp.copy, state)  # A step returns the loss before its update.
    return builder, after, [*losses, float(step(state, params, batch)[1]["loss"])]


def adam(g: Golden) -> Iterator[Check]:
    """Compares steps of Adam with clipping, decay, warm-up, freezing and multipliers."""
    t = g.load("train.npz")
    everything, kernels = [(".*", True)], [(".*/kernel", 1.0), (".*", 0.0)]
    cases = {
        "adam": (everything, 1e-4, kernels),
        "adam_freeze_img": ([("img/.*", False), (".*", True)], 1e-4, kernels),
        "adam_lrmults_wdmults": (
            [("img/.*", 0.1), (".*", True)],
            0.05,
            [("img/.*/kernel", 1.0), ("llm/.*/w", 0.5), (".*", 0.0)],
        ),
    }
    for name, (rules, decay, decay_rules) in cases.items():
        if f"{name}/loss" not in t:
            continue
        total = len(t[f"{name}/sched"]) - 1
        schedule = make_schedule(total_steps=total, decay="cosine", warmup_percent=0.2)
        got = [schedule(jnp.int32(i)) for i in range(total + 1)]
        yield f"{name} schedule", diff(got, t[f"{name}/sched"]), RELATIVE
        losses, norms, _, params = _train(
            g,
            t,
            rules,
            schedule,
            len(t[f"{name}/loss"]),
            name="adam",
            lr=1e-3,
            weight_decay=decay,
            decay_rules=decay_rules,
            grad_clip_norm=1.0,
            args={"b2": 0.999},
        )
        yield f"{name} losses", rel(losses, t[f"{name}/loss"]), RELATIVE
        yield f"{name} gradient norms", rel(norms, t[f"{name}/l2_grads"]), RELATIVE
        worst = 0.0
        for n, x in params.items():
            want = t[f"{name}/checksum/{n}"]
            # Key biases cancel in the softmax, so their gradient is zero but for rounding. Adam
            # turns this into steps of full size and random sign, which no two programs share.
            if t[f"ls0.0/grad_l2/{n}"] < 1e-6 * t["ls0.0/l2_grads"]:
                continue
            x = np.asarray(x, np.float64)
            worst = max(worst, abs(np.abs(x).sum() - want[1]) / want[1])
            worst = max(worst, abs(np.square(x).sum() - want[2]) / want[2])
        yield f"{name} parameter sums", worst, RELATIVE
