"""Hands a run over to a service such as Weights & Biases, from a process of its own.

The process reads what the run writes anyway, so that training never waits for a network, and a
service that fails or hangs costs nothing but its own curves.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pgjax.errors import note

if TYPE_CHECKING:
    from pgjax.training.trackers import Answers

FOLDER = "tracking"  # in the run directory: ids, answers for the services, and files of theirs
FINISHED = b"finished"
SECONDS, SECONDS_STOPPED = 60.0, 10.0  # to hand over the rest, of a run that finished or stopped
_SPARE = 5.0  # seconds for the process to end by itself after that


class Follower:
    """A process that follows the run and ends with it, however the run ends."""

    def __init__(self, service: str, workdir: pathlib.Path) -> None:
        """Starts the process.

        Args:
          service: wandb or mlflow.
          workdir: the run directory, with the config and `metrics.jsonl`.
        """
        self._service, self._folder = service, workdir / FOLDER
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._folder.mkdir(exist_ok=True)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pgjax.training.follow_run", service, str(workdir)],
                stdin=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the run, which then ends this
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        except OSError as e:
            self._give_up(str(e))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Does nothing: the process reads `metrics.jsonl`."""

    def show(self, step: int, answers: "Answers") -> None:
        """Writes answers to files, which the process finds when it reads the scores."""
        picture, table = answers_files(self._folder, answers.name, step)
        try:
            table.parent.mkdir(exist_ok=True)
            answers.picture.save(picture)
            content = {"header": list(answers.header), "rows": [list(row) for row in answers.rows]}
            table.write_text(json.dumps(content))
        except OSError as e:
            note(f"{picture.parent} cannot be written ({e.strerror or e}).")

    def close(self, finished: bool) -> None:
        """Lets the process hand over the rest, and waits for it."""
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(FINISHED if finished else b"")
            self._process.stdin.close()
        except OSError:  # it has ended, and said why
            pass
        try:
            status = self._process.wait((SECONDS if finished else SECONDS_STOPPED) + _SPARE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            status = self._process.wait()
        if status:
            self._give_up(f"its process ended with status {status}")

    def _give_up(self, why: str) -> None:
        note(f"{self._service} does not have all of the run ({why}); metrics.jsonl has it.")


def answers_files(folder: pathlib.Path, name: str, step: int) -> tuple[pathlib.Path, pathlib.Path]:
    """Returns where the picture and the table of an evaluation's answers lie."""
    stem = folder / "answers" / f"{name}_{step}"
    return stem.with_suffix(".png"), stem.with_suffix(".json")
