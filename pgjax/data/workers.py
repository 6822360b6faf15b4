"""Worker processes: whether they can start, what their loss is called, and their end."""

import contextlib
import functools
import multiprocessing.util
import os
import pathlib
import shutil
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from pgjax.errors import UserError


def check_main_module() -> None:
    """Checks that worker processes, which import the running script, may do so.

    Raises:
      UserError: its work would begin again in each of them.
    """
    file = getattr(sys.modules["__main__"], "__file__", None) or ""  # none in notebooks
    try:
        guarded = not file.endswith(".py") or "__name__" in pathlib.Path(file).read_text()
    except (OSError, ValueError):
        return
    if not guarded:
        raise UserError(
            f"Every worker process imports {file}, which would begin its work again there: put "
            'the work below `if __name__ == "__main__":`, or take no workers.'
        )


def lost_worker(why: object) -> UserError:
    """The error for a worker process that has died of something else than an exception."""
    return UserError(
        f"A worker process was lost ({why}), as it happens where memory runs out; with fewer "
        "workers, the same command goes on."
    )


@contextlib.contextmanager
def worker_errors() -> Iterator[None]:
    """Says in one sentence that grain's workers cannot start, or that one of them died.

    Raises:
      UserError: that is so.
    """
    try:
        yield
    except OSError as e:
        raise UserError(
            f"Worker processes cannot be started ({e.strerror or e}); each needs room in /dev/shm "
            "and some open files: make room, or take fewer workers."
        ) from None
    except RuntimeError as e:
        if "terminated unexpectedly" not in str(e):
            raise
        raise lost_worker(str(e).split(". ")[0]) from None


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
