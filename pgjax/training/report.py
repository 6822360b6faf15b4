"""Reports of a training run: the parameter table, a live line, and metric files."""

import json
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
from tensorboardX import SummaryWriter
from tqdm import tqdm

from pgjax.console import hms, say, table

METRICS_FILE = "metrics.jsonl"


class Metrics:
    """Writes scalars to `metrics.jsonl` and TensorBoard, from process 0 only."""

    def __init__(self, workdir: pathlib.Path, start_step: int):
        """Opens the files, and drops rows after `start_step` that an interrupted run has left."""
        self._on = jax.process_index() == 0
        if not self._on:
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
        """Appends one row of values by name."""
        if not self._on:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes both files."""
        if self._on:
            self._file.close()
            self._board.close()


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")  # an interruption cut the line


class LiveLine:
    """A line with step, loss, rate, remaining time, and share of time spent waiting for input."""

    def __init__(self, start: int, total: int):
        """Starts a progress bar on a terminal; elsewhere each update prints one line."""
        self._tty = sys.stderr.isatty() and jax.process_index() == 0
        self._bar = tqdm(total=total, initial=start, disable=not self._tty, unit="step")
        self._total, self._last = total, (start, time.perf_counter())
        self.waited = 0.0

    def update(self, step: int, loss: float, batch_size: int) -> dict[str, float]:
        """Shows the state after `step` updates, and returns the rates since the last call."""
        last_step, last_time = self._last
        now = time.perf_counter()
        seconds = max(now - last_time, 1e-9)
        per_second = (step - last_step) / seconds
        wait = min(self.waited / seconds, 1.0)
        self._last, self.waited = (step, now), 0.0
        self._bar.set_postfix_str(f"loss {loss:.4f}, input wait {wait:.0%}", refresh=False)
        self._bar.update(step - self._bar.n)
        if not self._tty:
            eta = (self._total - step) / max(per_second, 1e-9)
            say(
                f"step {step}/{self._total}  loss {loss:.4f}  {per_second:.2f} steps/s  "
                f"ETA {hms(eta)}  input wait {wait:.0%}"
            )
        return {
            "steps_per_second": per_second,
            "examples_per_second": per_second * batch_size,
            "input_wait": wait,
        }

    def close(self) -> None:
        """Ends the progress bar, and leaves its last line on the terminal."""
        self._bar.close()


def parameter_table(
    shapes: Mapping[str, tuple[int, ...]],
    multipliers: Mapping[str, float],
    dtypes: Mapping[str, Any],
) -> str:
    """Formats a table of parameters: shape, dtype, and whether and how fast each is trained.

    Args:
      shapes: by parameter name.
      multipliers: of the learning rate, by the name of a trainable parameter.
      dtypes: by parameter name.
    """
    rows = []
    for name, shape in shapes.items():
        rate = multipliers.get(name)
        trains = "frozen" if rate is None else "trains" if rate == 1 else f"trains at lr × {rate:g}"
        rows.append((name, "×".join(map(str, shape)) or "scalar", str(dtypes[name]), trains))
    total = {
        kind: sum(_size(s) for n, s in shapes.items() if (n in multipliers) == kind)
        for kind in (True, False)
    }
    text = table(("parameter", "shape", "dtype", ""), rows)
    return f"{text}\n{total[True]:,} parameters train, {total[False]:,} are frozen."


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size
