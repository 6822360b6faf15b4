"""Batches on their way out of worker processes."""

import mmap
import os
from multiprocessing.reduction import DupFd

import numpy as np

from pgjax.errors import DataError

_ALIGNED = 64  # bytes, for whoever puts the arrays on a device without copying them
_POPULATE = getattr(mmap, "MAP_POPULATE", 0)  # all pages at once, not a fault for each

Layout = list[tuple[str, np.dtype, tuple[int, ...], int]]  # name, dtype, shape, offset


class SharedBatch:
    """Arrays that are pickled as a handle of the memory that holds them.

    A batch of images through a pipe is copied half a dozen times. Memory without a name (Linux) is
    written once, mapped by who receives it, and gone with the last process that holds it, even one
    that is killed; named shared memory would stay, and containers often have 64 MB of it.
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        """Takes the arrays as they are; only pickling copies."""
        self._arrays = arrays

    def open(self) -> dict[str, np.ndarray]:
        """The arrays."""
        return self._arrays

    def __reduce__(self):
        """For the pickler of `multiprocessing`."""
        layout, size = [], 0
        for name, x in self._arrays.items():
            layout.append((name, x.dtype, x.shape, size))
            size += -(-x.nbytes // _ALIGNED) * _ALIGNED
        try:
            handle = os.memfd_create("batch")
        except (AttributeError, OSError):  # another system, or no handle left
            return SharedBatch, (self._arrays,)
        try:
            os.ftruncate(handle, size)
            for name, view in _views(handle, layout, size).items():
                np.copyto(view, self._arrays[name])
            return _Sent, (DupFd(handle), layout, size)
        except (OSError, ValueError):  # no memory, or arrays of objects
            return SharedBatch, (self._arrays,)
        finally:
            os.close(handle)


class _Sent:
    """A parcel on the other side; who sent it keeps the memory until it is opened."""

    def __init__(self, handle, layout: Layout, size: int):
        self._handle, self._layout, self._size = handle, layout, size

    def open(self) -> dict[str, np.ndarray]:
        """The arrays; once.

        Raises:
          DataError: the process that sent them has ended.
        """
        try:
            handle = self._handle.detach()
        except (OSError, EOFError) as e:
            raise DataError(f"a worker process ended before its batch was taken ({e})") from e
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
