"""`pgjax train`."""

import pathlib
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict

from pgjax.commands.config_files import copy_config
from pgjax.commands.config_flag import ConfigFlag
from pgjax.commands.distributed import DistributedCommand
from pgjax.commands.plan import PlanFlags
from pgjax.config import check_training, parse_config
from pgjax.errors import UsageError


class Train(DistributedCommand):
    """Trains a config, or continues its run.

    The run directory holds the resolved config, checkpoints, metrics and predictions. Starting the
    same command again continues an interrupted run with bit-identical results, on a machine with
    the same devices and the same number of processor cores.

    With --copy_config, `pgjax train --copy_config forkme mine.py` writes a copy of a config that
    comes with pgjax; with --help_config, `pgjax train --help_config optimizer.lr` explains a key.
    """

    name = "train"
    arguments = "[KEY|FILE]"
    statuses = {75: "stopped by SIGTERM or SIGHUP, or another process was lost; continue it"}
    example = "pgjax train --config quickstart --workdir runs/quickstart"

    def __init__(self, argv: Sequence[str]):
        """Defines the flags."""
        super().__init__(argv)
        self._config = ConfigFlag(self, "The run.")
        self._workdir = self.text(
            "workdir", None, "The run directory; a run that it holds is continued."
        )
        self._resume_from = self.integer(
            "resume_from", None,
            "Step of the checkpoint to continue from; without it, the newest that is whole.", 1,
        )  # fmt: skip
        self._profile = self.text("profile", "", "Steps to trace for TensorBoard, as FROM-TO.")
        self._print = self.boolean("print_config", False, "Print the whole config and stop.")
        # A boolean flag that takes text may stand alone, or be given as --help_config=KEY.
        self._help = flags.DEFINE_flag(
            flags.Flag(
                flags.ArgumentParser(),
                flags.ArgumentSerializer(),
                "help_config",
                None,
                "Explain the keys of configs and stop: all, or those at or below KEY.",
                boolean=True,
            ),
            self.flags,
        )
        self._copy = self.text(
            "copy_config", None, "Write a copy of this config, which comes with pgjax, to FILE."
        )
        self._push = self.text(
            "push_to_hub", None,
            "After training, export the run and upload it, with a model card, to this repository "
            "(OWNER/NAME) of the Hugging Face hub; of a LoRA run, the adapter.",
        )  # fmt: skip
        self._plan = self.boolean("plan", False, "Plan memory and time, as pgjax plan, and stop.")
        self._plan_flags = PlanFlags(self)

    def accepts(self, count: int) -> bool:
        """FILE goes with --copy_config, KEY with --help_config."""
        if self._copy.value is not None:
            return count == 1
        return count == 0 or (count == 1 and self._help.value == "true")

    def run(self) -> None:
        """Trains, or does what is asked instead."""
        if self._help.value not in (None, "false"):
            from pgjax.config.reference import text

            key = self.positional[0] if self.positional else self._help.value
            print(text(None if key == "true" else key))
            return
        if self._copy.value is not None:
            file = self.positional[0]
            copy_config(self._copy.value, pathlib.Path(file).expanduser())
            print(f"{file}: a copy of {self._copy.value}, for pgjax train --config {file}")
            return
        if not self._config.given:
            raise UsageError(f"--config is missing; for instance: {self.example}.")
        config = self._config.read()
        if self._print.value:
            print(config)
        elif self._plan.value or self._plan_flags.parameters.value:
            self._plan_flags.print_plan(config)
        elif self._workdir.value is None:
            raise UsageError("--workdir is missing; checkpoints and metrics are written there.")
        else:
            self._train(config)

    def _train(self, config: ConfigDict) -> None:
        check_training(parse_config(config))
        self.join_processes()
        if repo := self._push.value:
            if self.joined:
                raise UsageError(
                    "--push_to_hub is for runs in one process; pgjax convert uploads those of "
                    "several, when they are finished."
                )
            from pgjax.checkpoints.hub import create_repository

            create_repository(repo)  # so that a missing token is noticed before training
        from pgjax.loading.compiler_options import cache_compilations
        from pgjax.training.loop import train

        cache_compilations()
        workdir = pathlib.Path(str(self._workdir.value)).expanduser()
        train(config, workdir, self._profile.value, resume_from=self._resume_from.value)
        if repo:
            from pgjax.commands.publish import publish_run

            publish_run(workdir, repo)
            print(f"The run is at https://huggingface.co/{repo}.")
