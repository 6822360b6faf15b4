"""What was measured: printed at once, and kept in a JSON file and perhaps in RESULTS.md."""

import json
import math
import pathlib
import threading
import time
from typing import Any

from common import Row


class Report:
    """Rows as they come. Each is on disk before the next one is measured."""

    def __init__(self, path: pathlib.Path, results: pathlib.Path | None):
        """Begins a new JSON file.

        Args:
          path: of the JSON file, `{machine, rows: [{part, what, value, unit, note, ok}], failed}`.
          results: a Markdown file that rows are appended to, or None.
        """
        self.path, self.results = path, results
        self.machine = ""
        self.rows: list[dict[str, Any]] = []
        self.failed: list[str] = []
        self._start, self._lock, self._titled = time.monotonic(), threading.Lock(), False
        self._write()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._start

    def say(self, text: str) -> None:
        """A line for people alone."""
        with self._lock:
            print(f"[{self.seconds:4.0f} s] {text}", flush=True)

    def row(self, part: str, row: Row, ok: bool = True) -> None:
        """Prints and keeps a row; one that is not ok counts as a failure."""
        self.say(f"{part:<12} {'' if ok else 'FAILED '}{row}")
        value = row.value if math.isfinite(row.value) else None  # JSON has no NaN
        with self._lock:
            self.rows.append({"part": part, **vars(row), "value": value, "ok": ok})
            if not ok:
                self.failed.append(f"{part}: {row.what}")
            self._write()
            if self.results:
                self._append(part, row, ok)

    def fail(self, part: str, message: str) -> None:
        """A part or a case that could not be measured, and why, in one line."""
        self.say(f"{part:<12} FAILED {message}")
        with self._lock:
            self.failed.append(f"{part}: {message}")
            self._write()

    def _write(self) -> None:
        content = {"machine": self.machine, "rows": self.rows, "failed": self.failed}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        partial.replace(self.path)

    def _append(self, part: str, row: Row, ok: bool) -> None:
        with self.results.open("a") as f:
            if not self._titled:
                f.write(f"\n## One device\n\n`python tools/bench/device.py`: {self.machine}.\n\n")
                f.write("| part | what | value | unit | note |\n| --- | --- | --- | --- | --- |\n")
                self._titled = True
            note = row.note if ok else f"FAILED {row.note}".rstrip()
            cells = (part, row.what, row.number, row.unit, note)
            f.write("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
