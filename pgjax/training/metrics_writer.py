"""Writes the metrics of a training run to its files."""

import json
import pathlib
from collections.abc import Mapping, Sequence

import jax
from tensorboardX import SummaryWriter
from tensorboardX.proto.summary_pb2 import Summary

METRICS_FILE = "metrics.jsonl"


class MetricsWriter:
    """Writes to `metrics.jsonl` and TensorBoard, from process 0 only."""

    def __init__(self, workdir: pathlib.Path, start_step: int) -> None:
        """Opens the files, and removes the rows of steps after `start_step`.

        Such rows are left by a run that was interrupted after its last checkpoint.

        Args:
          workdir: the run directory.
          start_step: the step from which the run continues; 0 for a new one.
        """
        self._writes = jax.process_index() == 0
        if not self._writes:
            return
        path = workdir / METRICS_FILE
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step(line) <= start_step]
            part = path.with_suffix(".part")
            part.write_text("".join(f"{line}\n" for line in kept))
            part.replace(path)
        self._file = path.open("a")
        self._board = SummaryWriter(str(workdir / "tb"), purge_step=start_step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends the values of a step, by name."""
        if not self._writes:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def show(self, step: int, values: Sequence[Summary.Value]) -> None:
        """Adds pictures and texts to TensorBoard, see `board_values`."""
        if self._writes and values:
            self._board.file_writer.add_summary(Summary(value=values), step)

    def close(self) -> None:
        """Closes both files."""
        if self._writes:
            self._file.close()
            self._board.close()


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")  # the line is incomplete, because the run was interrupted
