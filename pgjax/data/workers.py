"""Worker processes that do not outlive the process they work for."""

import functools
import multiprocessing.util
import os
import shutil
import sys
import threading


def end_with_parent() -> None:
    """Called in a worker: it ends when its parent does, even if that was killed.

    It would wait forever for work, or for somebody to take its results.
    """
    threading.Thread(target=_wait_and_end, daemon=True).start()
    sys.excepthook = functools.partial(_say_unless_lost, sys.excepthook)


def _say_unless_lost(before, kind, value, traceback) -> None:
    """Says nothing of a batch whose receiver was interrupted while it took it.

    It is the thread of `multiprocessing` that hands batches over which would print a traceback, and
    whoever wanted the batch says what there is to say.
    """
    lost = issubclass(kind, EOFError | ConnectionError)
    if not (lost and threading.current_thread() is not threading.main_thread()):
        before(kind, value, traceback)


def _wait_and_end() -> None:
    multiprocessing.parent_process().join()
    # No exit handler will run, nor the one that removes the folder of this process's sockets.
    shutil.rmtree(multiprocessing.util.get_temp_dir(), ignore_errors=True)
    os._exit(1)
