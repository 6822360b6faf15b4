"""Builds from a config all that a training run needs before its first step."""

import dataclasses
import hashlib
import math
import pathlib
from collections.abc import Mapping

import jax

from pgjax import sharding
from pgjax.checkpoints.resume import Checkpoints
from pgjax.config import MixtureEntry, RunConfig, check_training, to_dict
from pgjax.config.init_sizes import check_init
from pgjax.config.parsing import split_score
from pgjax.console import Phase, say
from pgjax.data.loader import Part, TrainLoader
from pgjax.data.sources import Source, make_source
from pgjax.errors import UserError
from pgjax.evaluation.evaluators import Evaluator, make_evaluator
from pgjax.loading.best_checkpoint import TrackedScore
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
from pgjax.training.resuming import resume
from pgjax.training.rewarded import RewardedBatches
from pgjax.training.same_everywhere import check_same, check_shared, data_identity, versions
from pgjax.training.state import TrainState
from pgjax.training.step_builder import TrainStepBuilder, make_step_builder
from pgjax.training.step_memory import abstract_batch, moments, nbytes
from pgjax.training.trackers import check_installed
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
    rewarded: RewardedBatches | None  # where the run is tuned by reward
    changed: str  # how the config differs from the one that the run was started with

    def tracked(self, text: str) -> TrackedScore | None:
        """Returns the score that a text names, see `tracked_score`."""
        return tracked_score(text, self.evaluators)

    def params(self) -> Flat:
        """Returns all parameters by name, frozen and trainable."""
        return {**self.frozen, **self.state.params}


def set_up(
    config: RunConfig, workdir: pathlib.Path, token: str, resume_from: int | None = None
) -> TrainingRun:
    """Builds a training run: what can be checked cheaply comes first, parameters come last.

    Args:
      config: the run's config.
      workdir: the run directory, whose lock this run holds.
      token: the token of that lock, in process 0.
      resume_from: the step of the checkpoint to continue from; None for the newest that is whole,
        if there is one.

    Raises:
      UserError: the config does not fit together, into memory, to the data or to the run directory,
        which is not changed in that case.
    """
    check_init(config, "config")
    check_training(config)
    check_installed(config.trackers)
    check_same("config", {"config": to_dict(config), "versions": versions()})
    check_shared(workdir, token)
    _check_split(config)
    context = open_model_context(config)
    loader, sources = _open_loader(config, context)
    _check_same_data(context, sources)
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
        source = dataclasses.replace(config, init=find_init(config, workdir))
        params = load_parameters(dataclasses.replace(context, config=source), builder.storage)
        trainable = {name: params.pop(name) for name in builder.multipliers}
        rewarded = None
        if config.reward.given:
            length = abstract_batch(builder)["text"].shape[1]
            rewarded = RewardedBatches(context, trainable, length - 1)
        state = builder.state(trainable)
        jax.block_until_ready(state)

    checkpoints = Checkpoints(workdir, keep_last=config.keep_last, keep_every=config.keep_every)
    changed = _changed(config, workdir)
    if found := resume(checkpoints, state, changed, resume_from):
        state, position = found
        loader.restore(position)
        if (step := int(state.step)) > total_steps:
            raise UserError(
                f"{workdir} is at step {step}, which is past the last step of this config, "
                f"{total_steps}."
            )
        epochs = position["examples"] / loader.num_examples
        say(
            f"Going on from step {step} of {total_steps}, {checkpoints.folder}/step_{step}: "
            f"{position['examples']:,} examples are done, {epochs:.2f} epochs."
        )
    if changed:
        say(f"NOTE: the config differs from the one that {workdir} was started with: {changed}.")
    if jax.process_index() == 0:
        best = tracked_score(config.keep_best, evaluators)
        model_bytes = context.tokenizer.model_bytes
        write_run(workdir, config, sorted(builder.multipliers), model_bytes, best)
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
        rewarded=rewarded,
        changed=changed,
    )


def tracked_score(text: str, evaluators: Mapping[str, Evaluator]) -> TrackedScore | None:
    """Returns the score that `EVALUATION/SCORE[:max|:min]` names; None for ""."""
    if not text:
        return None
    key, evaluation, direction = split_score(text)
    lowest = evaluators[evaluation].main.lower_is_better
    return TrackedScore(key, direction == "min" if direction else lowest)


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


def _open_loader(config: RunConfig, context: ModelContext) -> tuple[TrainLoader, dict[str, Source]]:
    """Opens the training data; returns its sources by name as well."""
    spec = config.input
    parts = [
        Part(make_source(part.data), context.pipeline(part.pp or spec.pp), part.weight, name)
        for name, part in (spec.mixture or {"train": MixtureEntry(spec.data)}).items()
    ]
    loader = TrainLoader(
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
    return loader, {part.name: part.source for part in parts}


def _total_steps(config: RunConfig, loader: TrainLoader) -> int:
    if config.total_steps:
        return config.total_steps
    examples = config.total_epochs * loader.num_examples
    return max(1, math.ceil(examples / config.input.batch_size))


def find_init(config: RunConfig, workdir: pathlib.Path) -> str:
    """Returns where `config.init` can be opened, also if the run goes on from another folder.

    Raises:
      UserError: what the run was started from is not found, or has other contents by now.
    """
    if (workdir / CONFIG_FILE).exists() and (run := read_run(workdir)).config.init == config.init:
        return run.find_base()
    return config.init


def _changed(config: RunConfig, workdir: pathlib.Path) -> str:
    """Returns how a config differs from the one that the run was started with, or ""."""
    known = (workdir / CONFIG_FILE).exists()
    return differences(read_run(workdir).config, config) if known else ""


def _check_same_data(context: ModelContext, sources: Mapping[str, Source]) -> None:
    if jax.process_count() > 1:
        tokenizer = hashlib.sha256(context.tokenizer.model_bytes).hexdigest()[:16]
        check_same("data", {"data": data_identity(sources), "tokenizer": tokenizer})
