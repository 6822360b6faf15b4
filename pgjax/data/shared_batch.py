"""Batches that worker processes send without copying them through a pipe."""

import mmap
import os
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np

from pgjax.data.workers import lost_worker

_ALIGNED = 64  # bytes; jax can take over an array at such an address without copying it
_POPULATE = getattr(mmap, "MAP_POPULATE", 0)  # maps all pages at once instead of one by one

Layout = list[tuple[str, np.dtype, tuple[int, ...], int]]  # name, dtype, shape, offset


class SharedBatch:
    """Arrays by name, which are pickled as a handle to shared memory.

    A batch of images that goes through a pipe is copied half a dozen times. Anonymous memory
    (Linux's memfd) is written once, mapped by the receiver, and freed with the last process that
    holds it, even if that is killed; named shared memory would remain, and is often limited to
    64 MB in containers.
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        """Holds the arrays; only pickling copies them."""
        self._arrays = arrays

    def open(self) -> dict[str, np.ndarray]:
        """Returns the arrays."""
        return self._arrays

    def __reduce__(self) -> tuple[Any, ...]:
        """Writes the arrays to shared memory, for the pickler of `multiprocessing`."""
        layout: Layout = []
        size = 0
        for name, x in self._arrays.items():
            layout.append((name, x.dtype, x.shape, size))
            size += -(-x.nbytes // _ALIGNED) * _ALIGNED
        try:
            handle = os.memfd_create("batch")
        except (AttributeError, OSError):  # not on Linux, or too many open files
            return SharedBatch, (self._arrays,)
        try:
            os.ftruncate(handle, size)
            for name, view in _views(handle, layout, size).items():
                np.copyto(view, self._arrays[name])
            return _Sent, (DupFd(handle), layout, size)
        except (OSError, ValueError):  # no memory, or arrays of Python objects
            return SharedBatch, (self._arrays,)
        finally:
            os.close(handle)


class _Sent:
    """A received `SharedBatch`, whose memory the sender keeps until it is opened."""

    def __init__(self, handle: Any, layout: Layout, size: int):
        self._handle, self._layout, self._size = handle, layout, size

    def open(self) -> dict[str, np.ndarray]:
        """Returns the arrays; it can be called once.

        Raises:
          UserError: the process that sent them has ended.
        """
        try:
            handle = self._handle.detach()
        except (OSError, EOFError) as e:
            raise lost_worker(f"it ended before its batch was received: {e}") from None
        try:
            return _views(handle, self._layout, self._size)
        finally:
            os.close(handle)


def _views(handle: int, layout: Layout, size: int) -> dict[str, np.ndarray]:
    memory = mmap.mmap(handle, size, flags=mmap.MAP_SHARED | _POPULATE)
    return {
        name: np.frombuffer(memory, dtype, int(np.prod(shape)), offset).reshape(shape)
        for name, dtype, shape, offset in layout
    }
