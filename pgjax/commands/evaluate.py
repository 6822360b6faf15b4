"""`pgjax evaluate`."""

import dataclasses
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from pgjax.benchmarks.published import PLAIN, PUBLISHED
from pgjax.commands.command import STEP_HELP
from pgjax.commands.config_files import read_configs
from pgjax.commands.config_flag import ConfigFlag
from pgjax.commands.distributed import DistributedCommand
from pgjax.config import EvalConfig, MeshConfig, RunConfig, parse_config, to_dict
from pgjax.errors import UsageError


class Job(NamedTuple):
    """A checkpoint, and the config whose evaluations it goes through."""

    checkpoint: str
    benchmark: str
    config: RunConfig
    out: pathlib.Path


class Evaluate(DistributedCommand):
    """Scores checkpoints on the evaluations of a run or of configs, in one table.

    Scores come with their 95 % interval and, where there is one, the published score. Predictions
    are written as they are made, and an evaluation that was interrupted continues where it was.
    """

    name = "evaluate"
    example = "pgjax evaluate --config vqav2:res=448 --checkpoint ft-vqav2-448"

    def __init__(self, argv: Sequence[str]):
        """Defines the flags."""
        super().__init__(argv)
        self._run_dir = self.text(
            "run", None, "A run directory: its newest checkpoint, on the evaluations of its config."
        )
        self._step = self.text("step", None, STEP_HELP)
        self._config = ConfigFlag(self, "The config whose evaluations are run.")
        self._benchmarks = self.items(
            "benchmarks", "Several configs, as for --config, instead: NAME[:ARGS],NAME[:ARGS],…."
        )
        self._checkpoint = self.text(
            "checkpoint", None,
            "The checkpoint: a name (see pgjax list checkpoints), an .npz, a folder, a run "
            "directory; left out: config.init.",
        )  # fmt: skip
        self._checkpoints = self.items("checkpoints", "Several checkpoints, for one table.")
        self._only = self.items("evals", "Names of the evaluations to run; left out: all.")
        self._out = self.text(
            "out", None,
            "Folder for predictions and scores; left out: evaluation in the run directory, or "
            "evaluations/CHECKPOINT/CONFIG.",
        )  # fmt: skip
        self._restart = self.boolean("restart", False, "Discard the predictions that --out holds.")
        self._batch_size = self.integer(
            "batch_size", None, "Examples at a time; left out: as each evaluation says.", 1
        )
        self._max_examples = self.integer(
            "max_examples", None, "Examples of each evaluation, at most; left out: all.", 1
        )
        self._quantize = self.choice(
            "quantize", None, ["int8", "int4", "nf4"],
            "Keep the decoder's matrices in 8 or 4 bits; left out: as the checkpoint has them.",
        )  # fmt: skip
        self._dtype = self.text(
            "dtype", None, "Dtype of the matrices; left out: that of the checkpoint."
        )
        self._loaded: tuple[tuple, Any] | None = None  # the newest checkpoint, and what it was for

    def run(self) -> None:
        """Runs the evaluations and prints the table."""
        jobs = self._jobs()
        self.join_processes()
        import jax

        from pgjax.console import say, table
        from pgjax.evaluation.score_table import HEADER, folder_rows
        from pgjax.loading.compiler_options import cache_compilations

        cache_compilations()
        for job in jobs:
            self._evaluate(job)
        if jax.process_index() == 0:
            only = self._only.value or None
            rows = [r for job in jobs for r in folder_rows(job.out, PUBLISHED, PLAIN, only)]
            order = list(dict.fromkeys((r.benchmark, r.evaluation, r.score) for r in rows))
            rows.sort(key=lambda r: order.index((r.benchmark, r.evaluation, r.score)))
            say(table(HEADER, [row.cells() for row in rows]))
            for job in jobs:
                say(f"Predictions and scores: {job.out}")

    def _jobs(self) -> list[Job]:
        if self._checkpoint.value and self._checkpoints.value:
            raise UsageError("Give either --checkpoint or --checkpoints.")
        given = (self._run_dir.value is not None, self._config.given, self._benchmarks.value)
        if sum(map(bool, given)) != 1:
            raise UsageError("Give one of --run, --config and --benchmarks.")
        if self._step.value is not None and self._run_dir.value is None:
            raise UsageError("--step goes with --run.")
        checkpoints = self._checkpoints.value or [self._checkpoint.value]
        if (run := self._run_dir.value) is not None:
            from pgjax.loading.run_directory import read_run

            if checkpoints != [None]:
                raise UsageError("--run has a checkpoint of its own; leave out --checkpoint.")
            config = read_run(pathlib.Path(run)).config
            folder = f"evaluation_{step}" if (step := self._step.value) else "evaluation"
            out = pathlib.Path(self._out.value or run) / folder
            return [Job(run, config.name, config, out)]
        configs: dict[str, ConfigDict]
        if (name := self._config.given) is not None:
            configs = {name: self._config.read()}
        else:
            configs = read_configs(self._benchmarks.value)
        pairs = [(c, name, config) for c in checkpoints for name, config in configs.items()]
        root = pathlib.Path(self._out.value or "evaluations")
        nested = len(pairs) > 1 or self._out.value is None
        jobs = []
        for checkpoint, name, config in pairs:
            checkpoint, benchmark = checkpoint or config.init, _label(name)
            if not checkpoint:
                raise UsageError(f"{benchmark} has no config.init; name a --checkpoint.")
            out = root / _label(checkpoint) / benchmark if nested else root
            jobs.append(Job(checkpoint, benchmark, parse_config(config), out))
        return jobs

    def _evaluate(self, job: Job) -> None:
        from pgjax.evaluation.runner import evaluate
        from pgjax.loading.run_directory import is_run

        config = job.config
        evals = {name: self._with_flags(spec) for name, spec in config.evals.items()}
        own = is_run(pathlib.Path(job.checkpoint))  # which has its own image size and tokenizer
        context, params = self._load(
            job.checkpoint,
            None if own else config.model.res,
            None if own or config.tokenizer == "gemma" else config.tokenizer,
            config.mesh,
            config.loss_chunk,
        )
        about = {"checkpoint": job.checkpoint, "benchmark": job.benchmark}
        only, restart = self._only.value or None, self._restart.value
        evaluate(context, params, evals, only, job.out, about=about, restart=restart)

    def _load(self, *key: Any) -> tuple[Any, Any]:
        """Model context and parameters; those of the checkpoint before leave the memory first."""
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None
            self._loaded = key, self._load_anew(*key)
        return self._loaded[1]

    def _load_anew(
        self,
        checkpoint: str,
        res: int | None,
        tokenizer: str | None,
        mesh: MeshConfig,
        loss_chunk: int,
    ) -> tuple[Any, Any]:
        from pgjax.inference.load import load

        how = {"mesh": to_dict(mesh), "quantize": self._quantize.value, "dtype": self._dtype.value}
        model = load(checkpoint, res=res, tokenizer=tokenizer, step=self._step.value, **how)
        config = dataclasses.replace(model.context.config, loss_chunk=loss_chunk)
        return dataclasses.replace(model.context, config=config), model.params

    def _with_flags(self, spec: EvalConfig) -> EvalConfig:
        given = {"batch_size": self._batch_size.value, "max_examples": self._max_examples.value}
        return dataclasses.replace(spec, **{k: v for k, v in given.items() if v is not None})


def _label(text: str) -> str:
    """A folder's name from a checkpoint's or a config's."""
    path, _, arg = text.partition(":")
    stem = pathlib.Path(path).name.removesuffix(".py").removesuffix(".npz")
    return re.sub(r"[^\w.=+-]+", "_", f"{stem}_{arg}" if arg else stem)
