"""The process behind `Follower`: `python -m pgjax.training.follow_run SERVICE WORKDIR`.

It reads rows of `metrics.jsonl` as they come, until its stdin ends: with "finished" after the last
step, with nothing if the run stopped or was killed. TRACKING/SERVICE.json has the service's id of
the run, by which a run that continues is the same run there, and the last step that it has.
"""

import json
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from pgjax.errors import note
from pgjax.training.follower import FINISHED, FOLDER, SECONDS, SECONDS_STOPPED, answers_files
from pgjax.training.tracking_services import SERVICES

POLL = 1.0  # seconds between looks at metrics.jsonl


class _End:
    """Waits for the end of the run; some time after it, ends this process and its children."""

    def __init__(self, service: str) -> None:
        self._service = service
        self.finished = False
        self.came = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        said = b""
        while part := os.read(0, 64):  # not sys.stdin, whose lock would outlive this thread
            said += part
        self.finished = said == FINISHED
        self.came.set()
        seconds = SECONDS if self.finished else SECONDS_STOPPED
        time.sleep(seconds)
        note(
            f"{self._service} has not taken the whole run within {seconds:.0f} s; metrics.jsonl "
            "has every value."
        )
        os.killpg(0, signal.SIGKILL)


def follow(service: str, workdir: pathlib.Path, end: _End) -> None:
    """Hands rows and answers to a service until the run ends."""
    folder = workdir / FOLDER
    kept = folder / f"{service}.json"
    known = json.loads(kept.read_text()) if kept.exists() else {"id": "", "step": -1}
    config = json.loads((workdir / "config.json").read_text())
    run = SERVICES[service](folder, config, known["id"])

    def keep(step: int) -> None:
        part = kept.with_suffix(".part")
        part.write_text(json.dumps({"id": run.id, "step": step}))
        part.replace(kept)

    keep(known["step"])
    with (workdir / "metrics.jsonl").open("rb") as file:
        while True:
            over = end.came.wait(POLL)
            # A row of the last step may be new, and is the same where it is not.
            rows = [row for row in _new_rows(file) if row["step"] >= known["step"]]
            waiting: list[dict[str, Any]] = []
            for row in rows:
                waiting.append(row)
                for name in dict.fromkeys(k.partition("/")[0] for k in row if "/" in k):
                    picture, table = answers_files(folder, name, row["step"])
                    if table.exists():  # after the rows up to it: steps never go back
                        run.log(waiting)
                        waiting = []
                        run.show(row["step"], name, picture, **json.loads(table.read_text()))
            if rows:
                run.log(waiting)
                keep(rows[-1]["step"])
            if over:
                break
    run.close(end.finished)


def _new_rows(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """Yields the whole rows from where the file was read last."""
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith(b"\n"):
            file.seek(start)
            return
        yield json.loads(line)


def main(service: str, workdir: str) -> None:
    """Follows a run; a failure of the service is a note."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are for the run, which then ends stdin
    try:
        follow(service, pathlib.Path(workdir), _End(service))
    except Exception as e:  # whatever a service raises
        said = (str(e).splitlines() or [""])[0]
        note(
            f"{service} failed ({type(e).__name__}: {said}); the run goes on without it, and "
            "metrics.jsonl has every value."
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
