"""Drops what orbax's threads print when a save fails, beside the exception that they raise."""

import asyncio
import contextlib
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

_FOLDER = f"{os.sep}orbax{os.sep}"  # in the path of every module of orbax
_LOGGERS = ("absl", "asyncio")
_MOST_SECONDS = 10.0  # to wait for the threads of a save that has failed


class QuietSaves:
    """Drops messages from `start` to `stop`, and only those of orbax's own threads.

    A save runs in threads of orbax. If a write fails, each of them logs a traceback, asyncio logs
    the writes that fail after the first one, and completions that come after the threads' event
    loop was closed reach `sys.unraisablehook`. All of them repeat the one exception that
    `CheckpointManager.wait_until_finished` raises.
    """

    def __init__(self) -> None:
        """Changes nothing; `start` does."""
        self._before: Callable[[Any], Any] | None = None

    def start(self) -> None:
        """Begins to drop messages, if it has not yet."""
        if self._before is None:
            for name in _LOGGERS:
                logging.getLogger(name).addFilter(self._is_wanted)
            self._before, sys.unraisablehook = sys.unraisablehook, self._unraisable

    def stop(self, *, failed: bool = False) -> None:
        """Puts the loggers and the hook back as they were.

        Args:
          failed: whether a save has failed, whose threads are then waited for.
        """
        if self._before is None:
            return
        if failed:
            _join_threads()
            _retrieve_exceptions()
            gc.collect()  # Writes that are collected later would reach the hook then.
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._is_wanted)
        if sys.unraisablehook == self._unraisable:
            sys.unraisablehook = self._before
        self._before = None

    def _is_wanted(self, record: logging.LogRecord) -> bool:
        if record.name == "asyncio":
            return not _is_orbax(threading.current_thread())
        return _FOLDER not in record.pathname

    def _unraisable(self, unraisable: Any) -> None:
        closed = str(unraisable.exc_value) == "Event loop is closed"
        if not closed:
            (self._before or sys.__unraisablehook__)(unraisable)


def _is_orbax(thread: threading.Thread) -> bool:
    return type(thread).__module__.startswith("orbax.")


def _retrieve_exceptions() -> None:
    """Keeps asyncio from telling of writes that nobody asks, whenever they are collected."""
    for thing in gc.get_objects():
        if not issubclass(type(thing), asyncio.Future):  # isinstance would wake lazy proxies
            continue
        if thing.get_loop().is_closed() and thing.done():
            with contextlib.suppress(asyncio.CancelledError):
                thing.exception()


def _join_threads() -> None:
    """Waits until no thread of orbax is left, for a while at most."""
    end = time.monotonic() + _MOST_SECONDS
    for thread in threading.enumerate():
        if _is_orbax(thread) and thread is not threading.current_thread():
            thread.join(max(0.0, end - time.monotonic()))
