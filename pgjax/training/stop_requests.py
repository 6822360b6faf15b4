"""Requests to stop or to save, heeded by all processes of a run between the same two steps.

SIGTERM and SIGHUP (Slurm's `--signal`, machines that are taken back, a closed terminal) ask to
stop: the run saves at the next step and ends with the exit status `pgjax.errors.TEMPORARY`. A
second signal ends it at once. Beside that, the first process asks to save every few minutes.
"""

import os
import signal
import threading
import time
from types import FrameType, TracebackType

from pgjax import distributed
from pgjax.errors import Stopped

SAVE = "save"
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class StopRequests:
    """A context in which both signals are requests."""

    def __init__(self, save_minutes: float) -> None:
        """Changes nothing; entering the context does.

        Args:
          save_minutes: a save is due this long after the last one; 0 for never.
        """
        self._seconds = 60 * save_minutes
        self._saved = time.monotonic()
        self._received = ""
        self._told: set[str] = set()
        self._before: dict[int, object] = {}
        self.interruptible = True  # whether nothing is lost by stopping at once

    def __enter__(self) -> "StopRequests":
        """Takes the signals, where this is the main thread and nobody ignores them (nohup)."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if (before := signal.getsignal(number)) is not signal.SIG_IGN:
                    self._before[number] = before
                    signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Gives them back."""
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]

    def saved(self) -> None:
        """Says that the run has saved now."""
        self._saved = time.monotonic()
        self._told.discard(SAVE)

    def due(self) -> str:
        """What all processes are to do now: `SAVE`, the name of a signal to stop for, or "".

        To be called by all processes equally often.
        """
        peers = distributed.get_peers()
        first = peers is None or peers.process == 0
        wishes = []
        if self._received:
            wishes.append(self._received)
        if first and self._seconds and time.monotonic() - self._saved >= self._seconds:
            wishes.append(SAVE)
        if peers is None:
            return next(iter(wishes), "")
        for wish in wishes:
            if wish not in self._told:
                self._told.add(wish)
                peers.wish(wish)
        return peers.tick()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)
        name = signal.Signals(number).name
        if self.interruptible:
            raise Stopped(f"Stopped by {name} before the first step; nothing is lost.")
        # Not print: the handler may run inside of one.
        text = f"NOTE: {name}: saving at the next step, to stop then; a second signal ends at once."
        os.write(2, f"{text}\n".encode())
        self._received = name
