"""Worker processes that do not outlive the process they work for."""

import multiprocessing.util
import os
import shutil
import threading


def end_with_parent() -> None:
    """Called in a worker: it ends when its parent does, even if that was killed.

    It would wait forever for work, or for somebody to take its results.
    """
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    multiprocessing.parent_process().join()
    # No exit handler will run, nor the one that removes the folder of this process's sockets.
    shutil.rmtree(multiprocessing.util.get_temp_dir(), ignore_errors=True)
    os._exit(1)
