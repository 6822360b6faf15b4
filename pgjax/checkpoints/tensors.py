"""What an opened checkpoint is: named tensors that are read when asked for, row by row."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np


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
        result = np.empty((len(layers), *self.shape[1:]), self.dtype)
        for i, layer in enumerate(layers):
            result[i] = layer.read()
        return result
