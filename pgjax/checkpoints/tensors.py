"""The tensors of an opened checkpoint, which are read when asked for, row by row."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike

SLICE_BYTES = 2**28  # the most bytes of one tensor that are in host memory at a time
_ALIGNMENT = 64  # bytes; on a CPU, jax takes over an array with this alignment without a copy


def empty_aligned(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """Makes an array that is not initialised, at an address that jax can take over."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    data = np.empty(size + _ALIGNMENT, np.uint8)
    start = -data.ctypes.data % _ALIGNMENT
    return data[start : start + size].view(dtype).reshape(shape)


def to_aligned(x: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """Converts an array to a dtype and an aligned address, or returns it if it has both."""
    if x.dtype == dtype and x.flags.c_contiguous and x.ctypes.data % _ALIGNMENT == 0:
        return x
    result = empty_aligned(x.shape, dtype)
    result[...] = x
    return result


@runtime_checkable
class Tensor(Protocol):
    """A parameter as a checkpoint stores it, under pgjax's name and with pgjax's axes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole tensor."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """The dtype of what `read` returns."""
        ...

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Reads rows start:stop of the first axis into host memory; a scalar is read whole."""
        ...


@dataclasses.dataclass(frozen=True)
class InMemory:
    """A tensor that is an array in host memory."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the array."""
        return self.array.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Returns a view of the rows."""
        return self.array[start:stop] if self.array.ndim else self.array


@dataclasses.dataclass(frozen=True)
class Converted:
    """A tensor in another dtype than it is stored in."""

    source: Tensor
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the source."""
        return self.source.shape

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Reads and converts the rows."""
        return self.source.read(start, stop).astype(self.dtype)


@dataclasses.dataclass(frozen=True)
class FirstRows:
    """The first rows of a tensor.

    Attributes:
      source: the tensor.
      rows: how many of its rows there are.
    """

    source: Tensor
    rows: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the rows."""
        return (self.rows, *self.source.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the source."""
        return self.source.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Reads rows start:stop."""
        start, stop, _ = slice(start, stop).indices(self.rows)
        return self.source.read(start, stop)


@dataclasses.dataclass(frozen=True)
class Transformed:
    """A tensor that is computed from all of another one.

    Attributes:
      source: the other tensor.
      shape: the shape of the result.
      change: computes the result from the source's array, and keeps its dtype.
    """

    source: Tensor
    shape: tuple[int, ...]
    change: Callable[[np.ndarray], np.ndarray]

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the source."""
        return self.source.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Computes the whole tensor and returns the rows."""
        whole = self.change(self.source.read())
        assert whole.shape == self.shape, (whole.shape, self.shape)
        return whole[start:stop]


@dataclasses.dataclass(frozen=True)
class Stacked:
    """A tensor whose rows are stored as tensors of their own, of equal shape and dtype."""

    rows: Sequence[Tensor]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, and the shape of one of them."""
        return (len(self.rows), *self.rows[0].shape)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of every row."""
        return self.rows[0].dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Reads the rows, and none of the others."""
        rows = self.rows[start:stop]
        result = empty_aligned((len(rows), *self.shape[1:]), self.dtype)
        for i, row in enumerate(rows):
            result[i] = row.read()
        return result
