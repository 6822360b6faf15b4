"""Builds from a config all that a training run needs before its first step."""

import dataclasses
import math
import pathlib
from typing import Any

import jax

from pgjax import sharding
from pgjax.checkpoints.resume import Checkpoints, abstract_like
from pgjax.config import MixtureEntry, RunConfig, check_training
from pgjax.console import Phase, say
from pgjax.data.loader import Part, TrainLoader
from pgjax.data.sources import make_source
from pgjax.errors import UserError
from pgjax.evaluation.evaluators import Evaluator, make_evaluator
from pgjax.loading.model_context import Flat, ModelContext, open_model_context
from pgjax.loading.parameters import load_parameters
from pgjax.loading.run_directory import (
    CONFIG_FILE,
    differences,
    read_run,
    write_run,
)
from pgjax.training.parameter_tables import parameter_summary
from pgjax.training.plan_text import device_line, precision_line
from pgjax.training.state import TrainState
from pgjax.training.step_builder import TrainStepBuilder, make_step_builder
from pgjax.training.step_memory import moments, nbytes
from pgjax.training.training_plan import check_fits


@dataclasses.dataclass
class TrainingRun:
    """The parts of a training run; the loop replaces `state` at each step."""

    config: RunConfig
    workdir: pathlib.Path
    context: ModelContext
    loader: TrainLoader
    evaluators: dict[str, Evaluator]
    total_steps: int
    builder: TrainStepBuilder
    frozen: Flat
    state: TrainState
    checkpoints: Checkpoints

    def params(self) -> Flat:
        """Returns all parameters by name, frozen and trainable."""
        return {**self.frozen, **self.state.params}


def set_up(config: RunConfig, workdir: pathlib.Path) -> TrainingRun:
    """Builds a training run: what can be checked cheaply comes first, parameters come last.

    The run continues from the newest complete checkpoint in `workdir`, if there is one.

    Args:
      config: the run's config.
      workdir: the run directory, which is created if it does not exist.

    Raises:
      UserError: the config does not fit together, into memory, to the data or to the run directory,
        which is not changed in that case.
    """
    check_training(config)
    _check_split(config)
    context = open_model_context(config)
    loader = _open_loader(config, context)
    total_steps = _total_steps(config, loader)
    evaluators = {name: make_evaluator(name, spec, context) for name, spec in config.evals.items()}
    builder = make_step_builder(context, total_steps)
    say(precision_line(builder))
    say(device_line(builder))
    say(parameter_summary(context.shapes, builder.multipliers, builder.storage))
    opt_state = builder.abstract()[0].opt_state
    say(f"The state of the optimizer takes {nbytes(moments(opt_state)):,} bytes on each device.")
    check_fits(builder, config)

    with Phase(f"loading parameters from {config.init or 'a random initialisation'}"):
        params = load_parameters(context, builder.storage)
        trainable = {name: params.pop(name) for name in builder.multipliers}
        state = builder.state(trainable)
        jax.block_until_ready(state)

    checkpoints = Checkpoints(workdir, keep_last=config.keep_last, keep_every=config.keep_every)
    if (step := checkpoints.latest()) is not None:
        with Phase(f"restoring {checkpoints.folder}/step_{step}"):
            state, position = _restore(checkpoints, step, state)
            loader.restore(position)
        if step > total_steps:
            raise UserError(
                f"{workdir} is at step {step}, which is past the last step of this config, "
                f"{total_steps}."
            )
    _write_files(config, workdir, context, sorted(builder.multipliers))
    return TrainingRun(
        config=config,
        workdir=workdir,
        context=context,
        loader=loader,
        evaluators=evaluators,
        total_steps=total_steps,
        builder=builder,
        frozen=params,
        state=state,
        checkpoints=checkpoints,
    )


def _check_split(config: RunConfig) -> None:
    """Checks that every device gets the same number of rows in each part of a batch."""
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.model)
    batch, accumulate = config.input.batch_size, config.grad_accum_steps
    parts = mesh.shape["data"] * accumulate
    if batch % parts:
        raise UserError(
            f"config.input.batch_size is {batch}; expected a multiple of {parts}, the product of "
            f"{mesh.shape['data']} devices on the mesh's data axis and "
            f"config.grad_accum_steps {accumulate}."
        )


def _open_loader(config: RunConfig, context: ModelContext) -> TrainLoader:
    spec = config.input
    parts = [
        Part(make_source(part.data), context.pipeline(part.pp or spec.pp), part.weight, name)
        for name, part in (spec.mixture or {"train": MixtureEntry(spec.data)}).items()
    ]
    return TrainLoader(
        parts,
        spec.batch_size,
        seed=config.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        workers=spec.workers,
        threads=spec.threads,
        prefetch=spec.prefetch,
        shuffle=spec.shuffle,
        on_bad_example=spec.on_bad_example,
    )


def _total_steps(config: RunConfig, loader: TrainLoader) -> int:
    if config.total_steps:
        return config.total_steps
    examples = config.total_epochs * loader.num_examples
    return max(1, math.ceil(examples / config.input.batch_size))


def _write_files(
    config: RunConfig, workdir: pathlib.Path, context: ModelContext, trained: list[str]
) -> None:
    """Writes the run directory's config, manifest and tokenizer; prints what the config changes."""
    known = (workdir / CONFIG_FILE).exists()
    if known and (changed := differences(read_run(workdir).config, config)):
        say(f"NOTE: the config differs from the one that {workdir} was started with: {changed}.")
    if jax.process_index() == 0:
        write_run(workdir, config, trained, context.tokenizer.model_bytes)


def _restore(
    checkpoints: Checkpoints, step: int, state: TrainState
) -> tuple[TrainState, dict[str, Any]]:
    params, train, data = checkpoints.restore(
        step, abstract_like(state.params), abstract_like(resumable_state(state))
    )
    return TrainState(params, **train), data


def resumable_state(state: TrainState) -> dict[str, Any]:
    """Returns the part of the state that a checkpoint holds beside the parameters."""
    train = {"opt_state": state.opt_state, "step": state.step, "key": state.key}
    return train if state.scale is None else train | {"scale": state.scale}
