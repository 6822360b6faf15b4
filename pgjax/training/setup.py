"""Everything a training run consists of, built from its config before the first step."""

import contextlib
import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from pgjax import sharding
from pgjax.checkpoints.resume import Checkpoints, abstract_like
from pgjax.console import Phase, say
from pgjax.data.loader import Part, TrainLoader
from pgjax.data.sources import make_source
from pgjax.devices.precision import AUTO
from pgjax.errors import UserError
from pgjax.evaluation.evaluators import Evaluator, make_evaluator
from pgjax.inference.session import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    Flat,
    Session,
    load_params,
    open_session,
    read_config,
)
from pgjax.models.quantized import check_kind
from pgjax.models.variants import float_dtype
from pgjax.training.memory import moments, nbytes
from pgjax.training.plan import check_fits
from pgjax.training.plan_text import attention_line, precision_line
from pgjax.training.program import Program, make_program
from pgjax.training.report import parameter_table
from pgjax.training.state import TrainState

Config = Mapping[str, Any]


@dataclasses.dataclass
class Run:
    """A run ready to step."""

    config: Config
    workdir: pathlib.Path
    session: Session
    loader: TrainLoader
    evaluators: dict[str, Evaluator]
    total_steps: int
    program: Program
    frozen: Flat
    state: TrainState
    checkpoints: Checkpoints

    def params(self) -> Flat:
        """All parameters, frozen and trainable."""
        return {**self.frozen, **self.state.params}


def set_up(config: Config, workdir: pathlib.Path, lighter: Mapping[str, Config]) -> Run:
    """Builds a run; cheap checks come first, parameters last.

    Resumes from the newest whole checkpoint in `workdir`, if there is one.

    Raises:
      UserError: whatever does not fit together; the workdir is as it was.
    """
    _check(config)
    session = open_session(config)
    loader = _open_loader(config, session)
    total_steps = _total_steps(config, loader)
    evaluators = {
        name: make_evaluator(name, spec, session) for name, spec in config["evals"].items()
    }
    if config["sample_sheet"] and config["sample_sheet"] not in evaluators:
        raise UserError(
            f"config.sample_sheet {config['sample_sheet']!r} is none of config.evals "
            f"{sorted(evaluators)}."
        )
    program = make_program(session, total_steps)
    say(precision_line(program))
    with contextlib.suppress(UserError):  # operations of the user's own, whose texts nobody knows
        say(attention_line(program))
    say(parameter_table(session.shapes, program.multipliers, program.kept))
    opt_state = program.abstract()[0].opt_state
    say(f"The state of the optimizer takes {nbytes(moments(opt_state)):,} bytes on each device.")
    check_fits(program, lighter)

    with Phase(f"loading parameters from {config['init'] or 'a random initialisation'}"):
        params = load_params(session, program.kept.__getitem__)
        trainable = {name: params.pop(name) for name in program.multipliers}
        state = program.state(trainable)
        jax.block_until_ready(state)

    checkpoints = Checkpoints(
        workdir, keep_last=config["keep_last"], keep_every=config["keep_every"]
    )
    if (step := checkpoints.latest()) is not None:
        with Phase(f"restoring {checkpoints.folder}/step_{step}"):
            state, position = _restore(checkpoints, step, state)
            loader.restore(position)
        if step > total_steps:
            raise UserError(f"{workdir} is at step {step}, past config.total_steps {total_steps}.")
    _write_files(config, workdir, session, sorted(program.multipliers))
    return Run(
        config=config,
        workdir=workdir,
        session=session,
        loader=loader,
        evaluators=evaluators,
        total_steps=total_steps,
        program=program,
        frozen=params,
        state=state,
        checkpoints=checkpoints,
    )


def _check(config: Config) -> None:
    batch, accumulate = config["input"]["batch_size"], config["grad_accum_steps"]
    for key in ("trainable_dtype", "frozen_dtype"):
        if config[key] != AUTO or key == "trainable_dtype":
            float_dtype(config[key], f"config.{key}")
    if config["quantize"]:
        check_kind(config["quantize"], "config.quantize")
    for key in ("log_every", "keep_last", "grad_accum_steps", "loss_chunk"):
        if config[key] < 1:
            raise UserError(f"config.{key} is {config[key]}, expected at least 1.")
    if bool(config["total_steps"]) == bool(config["total_epochs"]):
        raise UserError(
            "Give the length of the run by either config.total_steps or config.total_epochs; got "
            f"{config['total_steps']} and {config['total_epochs']}."
        )
    mesh = sharding.make_mesh(**config["mesh"])
    parts = mesh.shape["data"] * accumulate
    if batch < 1 or batch % parts:
        raise UserError(
            f"config.input.batch_size {batch} is not divisible by {parts} (data axis of "
            f"{mesh.shape['data']} devices × grad_accum_steps {accumulate})."
        )


def _open_loader(config: Config, session: Session) -> TrainLoader:
    spec = config["input"]
    mixture = spec["mixture"]
    if bool(mixture) == bool(spec["data"]):
        raise UserError("Give either config.input.data or config.input.mixture.")
    named = mixture or {"train": {"data": spec["data"], "weight": 1.0}}
    parts = []
    for name, part in named.items():
        if unknown := sorted(part.keys() - {"data", "pp", "weight"}):
            raise UserError(
                f"config.input.mixture.{name}: {unknown} is read by nobody; it takes data, "
                "pp and weight."
            )
        pipeline = session.pipeline(part.get("pp") or spec["pp"])
        source = make_source(dict(part["data"]))
        parts.append(Part(source, pipeline, weight=part.get("weight", 1.0), name=name))
    return TrainLoader(
        parts,
        spec["batch_size"],
        seed=config["seed"],
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        workers=spec["workers"],
        threads=spec["threads"],
        prefetch=spec["prefetch"],
        shuffle=spec["shuffle"],
        on_bad_example=spec["on_bad_example"],
    )


def _total_steps(config: Config, loader: TrainLoader) -> int:
    if config["total_steps"]:
        return config["total_steps"]
    examples = config["total_epochs"] * loader.num_examples
    return max(1, math.ceil(examples / config["input"]["batch_size"]))


def _write_files(config: Config, workdir: pathlib.Path, session: Session, trained: list) -> None:
    """config.json and the tokenizer, so that the directory explains itself."""
    resolved = {**config, "_trained": trained}
    path = workdir / CONFIG_FILE
    if path.exists():
        before = read_config(workdir)
        changed = _differences(before, json.loads(json.dumps(resolved)))
        if changed:
            say(f"NOTE: the config differs from the one this workdir was started with: {changed}")
    if jax.process_index() == 0:
        try:
            for file, data in (
                (path, json.dumps(resolved, indent=1).encode()),
                (workdir / TOKENIZER_FILE, session.tokenizer.model_bytes),
            ):
                part = file.with_name(file.name + ".part")
                part.write_bytes(data)
                part.replace(file)
        except OSError as e:
            raise UserError(f"--workdir {workdir} cannot be written ({e}).") from None


def _differences(before: Any, after: Any, key: str = "config") -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        parts = (
            _differences(before.get(k), after.get(k), f"{key}.{k}")
            for k in sorted(before.keys() | after.keys())
        )
        return "; ".join(filter(None, parts))
    return "" if before == after else f"{key} was {before!r}, is {after!r}"


def _restore(
    checkpoints: Checkpoints, step: int, state: TrainState
) -> tuple[TrainState, dict[str, Any]]:
    params, train, data = checkpoints.restore(
        step, abstract_like(state.params), abstract_like(carried(state))
    )
    return TrainState(params, **train), data


def carried(state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds beside the parameters."""
    train = {"opt_state": state.opt_state, "step": state.step, "key": state.key}
    return train if state.scale is None else train | {"scale": state.scale}
