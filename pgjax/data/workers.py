"""Ends worker processes together with the process that started them."""

import functools
import multiprocessing.util
import os
import shutil
import sys
import threading
import types
from collections.abc import Callable
from typing import Any


def end_with_parent() -> None:
    """Makes a worker process, which calls this, end when its parent ends, even if that was killed.

    Otherwise it would wait forever for its parent to send work or to take results.
    """
    threading.Thread(target=_wait_and_end, daemon=True).start()
    sys.excepthook = functools.partial(_report_unless_lost, sys.excepthook)


def _report_unless_lost(
    before: Callable[..., Any],
    kind: type[BaseException],
    value: BaseException,
    traceback: types.TracebackType | None,
) -> None:
    """An `excepthook` that is silent about batches whose receiver was interrupted.

    Without it, the thread of `multiprocessing` that sends batches would print a traceback; the
    receiver reports the interruption itself.
    """
    lost = issubclass(kind, EOFError | ConnectionError)
    if not (lost and threading.current_thread() is not threading.main_thread()):
        before(kind, value, traceback)


def _wait_and_end() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
    # os._exit runs no exit handlers, among them the one that removes the folder of the sockets.
    shutil.rmtree(multiprocessing.util.get_temp_dir(), ignore_errors=True)
    os._exit(1)
