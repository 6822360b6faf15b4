"""What an opened checkpoint is: named tensors that are read when asked for, row by row."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

_ALIGNMENT = 64  # bytes; on a CPU, jax takes such an array over without a copy


def aligned(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An array that is not filled yet, at an address that devices can use."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    data = np.empty(size + _ALIGNMENT, np.uint8)
    start = -data.ctypes.data % _ALIGNMENT
    return data[start : start + size].view(dtype).reshape(shape)


def as_aligned(x: np.ndarray, dtype: Any) -> np.ndarray:
    """`x` in a dtype and aligned, which is itself where it is so already."""
    if x.dtype == dtype and x.flags.c_contiguous and x.ctypes.data % _ALIGNMENT == 0:
        return x
    result = aligned(x.shape, dtype)
    result[...] = x
    return result


class Tensor(Protocol):
    """One parameter as a checkpoint stores it, under pgjax's name and in pgjax's layout."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows start:stop of the first axis, in host memory; a scalar is read whole."""
        ...


Tensors = Mapping[str, Tensor]


@dataclasses.dataclass(frozen=True)
class InMemory:
    """An array that is there already."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        """Of the array."""
        return self.array.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """A view of the rows."""
        return self.array[start:stop] if self.array.ndim else self.array


@dataclasses.dataclass(frozen=True)
class Mapped:
    """A tensor made from another one, whole."""

    source: Tensor
    shape: tuple[int, ...]
    change: Callable[[np.ndarray], np.ndarray]

    @property
    def dtype(self) -> np.dtype:
        """Of the source."""
        return self.source.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows of the changed array."""
        whole = self.change(self.source.read())
        assert whole.shape == self.shape, (whole.shape, self.shape)
        return whole[start:stop]


@dataclasses.dataclass(frozen=True)
class Stacked:
    """Layers of equal shape, each stored as a tensor of its own."""

    layers: Sequence[Tensor]

    @property
    def shape(self) -> tuple[int, ...]:
        """[L, …]."""
        return (len(self.layers), *self.layers[0].shape)

    @property
    def dtype(self) -> np.dtype:
        """Of the first layer; they agree."""
        return self.layers[0].dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """The layers asked for, the others are not touched."""
        layers = self.layers[start:stop]
        result = aligned((len(layers), *self.shape[1:]), self.dtype)
        for i, layer in enumerate(layers):
            result[i] = layer.read()
        return result
