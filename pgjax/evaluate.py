"""Evaluates: `python -m pgjax.evaluate --config FILE[:args] --checkpoint NAME`, or `--run DIR`."""

import dataclasses
import pathlib
import re
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from pgjax import cli
from pgjax.config import EvalConfig, MeshConfig, RunConfig, parse_config, to_dict
from pgjax.errors import UserError
from pgjax.published import PLAIN, PUBLISHED

_RUN = flags.DEFINE_string("run", None, "Run directory: its newest checkpoint and its evals.")
_CONFIG = config_flags.DEFINE_config_file("config", None, "A config whose evals are run.")
_BENCHMARKS = flags.DEFINE_list("benchmarks", [], "Or several, FILE[:args], for one table.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Instead of config.init; see predict --list.")
_CHECKPOINTS = flags.DEFINE_list("checkpoints", [], "Or several, for one table.")
_ONLY = flags.DEFINE_list("evals", None, "Names of the evaluations to run; left out: all.")
_OUT = flags.DEFINE_string(
    "out", None, "Folder for predictions and scores; default: evaluation in the run directory, or "
    "evaluations/CHECKPOINT/CONFIG.",
)  # fmt: skip
_RESTART = flags.DEFINE_bool("restart", False, "Forget the predictions that --out holds.")
_BATCH = flags.DEFINE_integer("batch_size", None, "Instead of that of the evals.", lower_bound=1)
_MOST = flags.DEFINE_integer("max_examples", None, "Of each evaluation, at most.", lower_bound=1)
_QUANTIZE = flags.DEFINE_enum("quantize", None, ["int8", "int4", "nf4"], "Weights in 8 or 4 bits.")
_DTYPE = flags.DEFINE_string("dtype", None, "Of the matrices; left out: that of the checkpoint.")


class Job(NamedTuple):
    """A checkpoint, and the config whose evaluations it goes through."""

    checkpoint: str
    benchmark: str
    config: RunConfig
    out: pathlib.Path


def main() -> None:
    """Reads the flags, runs the evaluations and prints one table."""
    import jax

    from pgjax.console import say, table
    from pgjax.evaluation.score_table import HEADER, folder_rows
    from pgjax.loading.compiler_options import cache_compilations

    jobs = _jobs()
    cache_compilations()
    for job in jobs:
        _run(job)
    if jax.process_index() == 0:
        rows = [r for job in jobs for r in folder_rows(job.out, PUBLISHED, PLAIN, _ONLY.value)]
        order = list(dict.fromkeys((r.benchmark, r.evaluation, r.score) for r in rows))
        rows.sort(key=lambda r: order.index((r.benchmark, r.evaluation, r.score)))
        say(table(HEADER, [row.cells() for row in rows]))
        for job in jobs:
            say(f"Predictions and scores: {job.out}")


def _jobs() -> list[Job]:
    if _CHECKPOINT.value and _CHECKPOINTS.value:
        raise UserError("Give either --checkpoint or --checkpoints.")
    if [_RUN.value is None, _CONFIG.value is None, not _BENCHMARKS.value].count(False) != 1:
        raise UserError("Give one of --run, --config and --benchmarks.")
    checkpoints = _CHECKPOINTS.value or ([_CHECKPOINT.value] if _CHECKPOINT.value else [])
    if _RUN.value is not None:
        from pgjax.loading.run_directory import read_run

        if checkpoints:
            raise UserError("--run has a checkpoint of its own.")
        config = read_run(pathlib.Path(_RUN.value)).config
        out = pathlib.Path(_OUT.value or _RUN.value) / "evaluation"
        return [Job(_RUN.value, config.name, config, out)]
    if _CONFIG.value is not None:
        name = config_flags.get_config_filename(flags.FLAGS["config"])
        configs = {name: cli.open_config(_CONFIG)}
    else:
        configs = cli.read_configs(_BENCHMARKS.value)
    pairs = [
        (checkpoint, _label(path), parse_config(config))
        for checkpoint in checkpoints or [None]
        for path, config in configs.items()
    ]
    root = pathlib.Path(_OUT.value or "evaluations")
    own = len(pairs) > 1 or _OUT.value is None
    jobs = []
    for checkpoint, benchmark, config in pairs:
        if not (name := checkpoint or config.init):
            raise UserError(f"{benchmark} has no config.init; name a --checkpoint.")
        jobs.append(Job(name, benchmark, config, root / _label(name) / benchmark if own else root))
    return jobs


def _run(job: Job) -> None:
    from pgjax.evaluation.runner import evaluate
    from pgjax.loading.run_directory import is_run

    config = job.config
    evals = {name: _with_flags(spec) for name, spec in config.evals.items()}
    own = is_run(pathlib.Path(job.checkpoint))  # which has its own image size and tokenizer
    context, params = _load(
        job.checkpoint,
        None if own else config.model.res,
        None if own or config.tokenizer == "gemma" else config.tokenizer,
        config.mesh,
        config.loss_chunk,
    )
    about = {"checkpoint": job.checkpoint, "benchmark": job.benchmark}
    evaluate(context, params, evals, _ONLY.value, job.out, about=about, restart=_RESTART.value)


_LOADED: dict[tuple, tuple[Any, Any]] = {}  # the newest one


def _load(*key: Any) -> tuple[Any, Any]:
    """Session and parameters; those of the checkpoint before leave the memory first."""
    if key not in _LOADED:
        _LOADED.clear()
        _LOADED[key] = _load_anew(*key)
    return _LOADED[key]


def _load_anew(
    checkpoint: str, res: int | None, tokenizer: str | None, mesh: MeshConfig, loss_chunk: int
) -> tuple[Any, Any]:
    from pgjax.inference.load import load

    how = {"mesh": to_dict(mesh), "quantize": _QUANTIZE.value, "dtype": _DTYPE.value}
    model = load(checkpoint, res=res, tokenizer=tokenizer, **how)
    config = dataclasses.replace(model.context.config, loss_chunk=loss_chunk)
    return dataclasses.replace(model.context, config=config), model.params


def _with_flags(spec: EvalConfig) -> EvalConfig:
    given = {"batch_size": _BATCH.value, "max_examples": _MOST.value}
    return dataclasses.replace(spec, **{k: v for k, v in given.items() if v is not None})


def _label(text: str) -> str:
    """A folder's name from a checkpoint's or a config's."""
    path, _, arg = text.partition(":")
    stem = pathlib.Path(path).name.removesuffix(".py").removesuffix(".npz")
    return re.sub(r"[^\w.=+-]+", "_", f"{stem}_{arg}" if arg else stem)


if __name__ == "__main__":
    cli.run(main)
