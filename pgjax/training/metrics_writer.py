"""Writes the metrics of a training run to its files."""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence

import jax

from pgjax.errors import UserError
from pgjax.loading.best_checkpoint import METRICS_FILE
from pgjax.training.trackers import Answers, Tracker, open_trackers

OnMetrics = Callable[[int, Mapping[str, float]], object]


class MetricsWriter:
    """Writes to `metrics.jsonl` and to the run's trackers, from process 0 only.

    Attributes:
      on_write: called with each step and its values, on process 0; None calls nothing.
    """

    on_write: OnMetrics | None = None

    def __init__(
        self, workdir: pathlib.Path, last_step: int, trackers: Sequence[str] = ("tensorboard",)
    ) -> None:
        """Opens the files, and removes the rows of steps after `last_step`.

        Such rows are left by a run that was interrupted after its last checkpoint.

        Args:
          workdir: the run directory.
          last_step: the step from which the run continues; 0 for a new one.
          trackers: names of trackers, as in `config.trackers`.

        Raises:
          UserError: they cannot be written.
        """
        self._writes = jax.process_index() == 0
        self._path = workdir / METRICS_FILE
        self._trackers: list[Tracker] = []
        if not self._writes:
            return
        try:
            if self._path.exists():
                lines = self._path.read_text(errors="replace").splitlines()
                kept = [line for line in lines if _step(line) <= last_step]
                part = self._path.with_suffix(".part")
                part.write_text("".join(f"{line}\n" for line in kept))
                part.replace(self._path)
            self._file = self._path.open("ab", buffering=0)
        except OSError as e:
            raise self._unwritable(e) from None
        self._trackers = open_trackers(trackers, workdir, last_step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one row; a kill of this process after it does not lose it.

        Raises:
          UserError: the file cannot be written.
        """
        if not self._writes:
            return
        line = (json.dumps({"step": step, **values}) + "\n").encode()
        try:
            if (count := self._file.write(line)) != len(line):
                raise OSError(0, f"{count} of {len(line)} bytes fitted")
        except OSError as e:
            raise self._unwritable(e) from None
        for tracker in self._trackers:
            tracker.write(step, values)
        if self.on_write is not None:
            self.on_write(step, values)

    def show(self, step: int, answers: Answers) -> None:
        """Gives answers of an evaluation to the trackers; its row is written after it."""
        for tracker in self._trackers:
            tracker.show(step, answers)

    def close(self, finished: bool = True) -> None:
        """Closes the file and the trackers; `finished` says whether the run is at its end."""
        if self._writes:
            self._file.close()
        for tracker in self._trackers:
            tracker.close(finished)

    def _unwritable(self, e: OSError) -> UserError:
        return UserError(
            f"{self._path} cannot be written ({e.strerror}); what was saved is whole: make room, "
            "and the same command goes on."
        )


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")  # an interruption cut the line
