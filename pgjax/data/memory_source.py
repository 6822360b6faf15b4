"""Examples that are in memory: those that `pgjax.finetune(config, data=…)` is given."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pgjax.data.given_images import is_image_like, read_given
from pgjax.data.splits import Picked, parse_split
from pgjax.errors import DataError, UserError
from pgjax.registry import SOURCES

Rows = Sequence[Mapping[str, Any]]

_held: dict[str, Rows] = {}  # by the name under which configs refer to them


class Table(Sequence[Mapping[str, Any]]):
    """The rows of a list, a DataFrame of pandas, or a dataset with places (`datasets`, PyTorch)."""

    def __init__(self, data: Any) -> None:
        """Keeps the data as it is; rows are read when they are asked for.

        Raises:
          UserError: data of another kind, without rows, or whose first row has no image.
        """
        if hasattr(data, "iloc") and hasattr(data, "columns"):
            self._rows: Any = data.iloc
            self._count = len(data)
        elif isinstance(data, str | bytes | Mapping):
            raise _no_table(data)
        elif hasattr(data, "__getitem__") and hasattr(data, "__len__"):
            self._rows, self._count = data, len(data)
        elif isinstance(data, Iterable):
            self._rows = list(data)
            self._count = len(self._rows)
        else:
            raise _no_table(data)
        if not self._count:
            raise UserError("data has no row, expected at least one.")
        try:
            first = self[0]
        except DataError as e:
            raise UserError(f"data[0]: {e}") from None
        if not is_image_like(first.get("image")):
            raise UserError(
                f"data[0] has the keys {sorted(first)}, expected an 'image' that is a path, a "
                "Pillow image or an array, and texts 'prefix' and 'suffix'."
            )

    def __len__(self) -> int:
        """The number of rows."""
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """The row at a place, as a dict."""
        row = self._rows[index]
        if hasattr(row, "to_dict"):  # a Series of pandas
            row = row.dropna().to_dict()  # an empty cell may be NaN
        if not isinstance(row, Mapping):
            raise DataError(
                f"the row is a {type(row).__name__}, expected a dict with 'image', 'prefix', "
                "'suffix'."
            )
        return {str(key): value for key, value in row.items() if value is not None}


def _no_table(data: Any) -> UserError:
    return UserError(
        f"data is a {type(data).__name__}, expected a list of rows "
        '{"image": …, "prefix": …, "suffix": …}, a DataFrame, or one split of a dataset.'
    )


def hold(data: Any) -> str:
    """Keeps data in memory, and returns the name under which `MemorySource` finds it.

    The name depends on the number of rows, the first, the middle and the last of them, so that the
    same data has the same name in a later process, where a run is continued.

    Raises:
      UserError: as `Table`.
    """
    table = Table(data)
    digest = hashlib.sha256(str(len(table)).encode())
    for index in (0, len(table) // 2, len(table) - 1):
        row = table[index]
        digest.update(repr(sorted((k, v) for k, v in row.items() if isinstance(v, str))).encode())
        try:
            image = read_given(row["image"])
        except (DataError, KeyError):
            image = b""  # the loader says what is wrong
        digest.update(image if isinstance(image, bytes) else np.ascontiguousarray(image).tobytes())
    name = digest.hexdigest()[:16]
    _held[name] = table
    return name


@SOURCES.register("memory")
class MemorySource:
    """Random access to rows that `hold` keeps; images come in any form of `ImageLike`."""

    def __init__(self, rows: str, split: str = "all") -> None:
        """Finds the rows.

        Args:
          rows: the name that `hold` returned.
          split: see `pgjax.data.splits`.

        Raises:
          UserError: this process does not hold the rows, or a split that does not fit.
        """
        if rows not in _held:
            raise UserError(
                f"The examples {rows!r} are not in memory; call pgjax.finetune(config, workdir, "
                "data=…) with the data of before."
            )
        self._rows = _held[rows]
        self._picked = Picked(parse_split(split, len(self._rows)))

    def __len__(self) -> int:
        """The number of examples in the split."""
        return len(self._picked)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One example, with its image as encoded bytes or uint8 [H,W,3].

        Raises:
          DataError: the row has no image, or one that cannot be read.
        """
        row = self._rows[self._picked[index]]
        if "image" not in row:
            raise DataError(f"the row has no 'image', it has {sorted(row)}.")
        image = row["image"]
        several = isinstance(image, list | tuple)
        return {**row, "image": [*map(read_given, image)] if several else read_given(image)}

    def where(self, index: int) -> str:
        """The example's place, `data[index]`."""
        return f"data[{self._picked[index]}]"
