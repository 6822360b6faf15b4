"""One case: what is measured in a process of its own, so that memory and faults are its own.

The child writes lines of JSON that begin with `@` on its standard output; what else it writes goes
to the log. A case may be run twice: first to compile its programs into a cache on disk, beside
others, and then alone, to be measured.
"""

import dataclasses
import importlib
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import traceback
from typing import Any

from common import Row

SCRIPT = pathlib.Path(__file__).parents[1] / "device.py"


@dataclasses.dataclass(frozen=True)
class Case:
    """What one process does."""

    part: str
    name: str
    module: str  # of this package, with `run(case, emit)`
    size: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    compiles: bool = False  # whether it has programs worth compiling beforehand
    prepare: bool = False  # to compile only
    memory_fraction: float = 0.95  # of the device's, that it may take

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.part}: {self.name}"


@dataclasses.dataclass
class Outcome:
    """What a child said."""

    rows: list[tuple[Row, bool]] = dataclasses.field(default_factory=list)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    error: str = ""  # one line


class Emit:
    """The child's way to say what it found."""

    def row(self, what: str, value: float, unit: str, note: str = "", ok: bool = True) -> None:
        """A row of the table."""
        self._line("row", {"what": what, "value": float(value), "unit": unit, "note": note}, ok)

    def fact(self, name: str, value: Any) -> None:
        """For the parent alone, to be compared with other cases."""
        self._line("fact", {name: value})

    def say(self, text: str) -> None:
        """A line for people."""
        self._line("say", text)

    def _line(self, kind: str, *values: Any) -> None:
        print("@" + json.dumps([kind, *values]), flush=True)


def child(text: str) -> int:
    """Runs the case that a JSON text describes; returns the exit status."""
    case, emit = Case(**json.loads(text)), Emit()
    try:
        importlib.import_module(f"device_parts.{case.module}").run(case, emit)
    except Exception as e:
        traceback.print_exc()
        emit._line("error", one_line(e))
        return 1
    return 0


def one_line(e: BaseException) -> str:
    """Type and beginning of an exception."""
    message = " ".join(str(e).split())
    return f"{type(e).__name__}: {message[:300]}".rstrip(": ")


def run_case(case: Case, report: Any, *, limit: float, cache: str, log: pathlib.Path) -> Outcome:
    """Runs a case in a process of its own, and reports its rows as they come.

    Args:
      case: what to run.
      report: takes rows and lines.
      limit: seconds after which it is stopped.
      cache: folder of compiled programs.
      log: what the child says beside is appended there.
    """
    env = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": "1",
        # Memory is taken as it is needed, up to the case's share.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{case.memory_fraction:.4f}",
    }
    command = [sys.executable, str(SCRIPT), "--case", json.dumps(dataclasses.asdict(case))]
    outcome, started = Outcome(), time.monotonic()
    with log.open("a") as f:
        f.write(f"\n=== {case.label}{' (compiling)' if case.prepare else ''}\n")
        f.flush()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=f, text=True, env=env)
        timer = threading.Timer(limit, process.kill)
        timer.start()
        try:
            for line in process.stdout:
                if line.startswith("@"):
                    _take(json.loads(line[1:]), case, outcome, report)
                else:
                    f.write(line)
            status = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
    if status and not outcome.error:
        late = time.monotonic() - started >= limit
        outcome.error = f"stopped after {limit:.0f} s" if late else f"exit status {status}"
    return outcome


def _take(message: list[Any], case: Case, outcome: Outcome, report: Any) -> None:
    kind, *values = message
    if kind == "row":
        row = Row(**values[0])
        outcome.rows.append((row, values[1]))
        report.row(case.part, row, values[1])
    elif kind == "fact":
        outcome.facts |= values[0]
    elif kind == "say":
        report.say(f"{case.part:<12} {values[0]}")
    elif kind == "error":
        outcome.error = values[0]
