"""Data sets that `pgjax prepare` has written, in either of its formats."""

import os
import pathlib
import re
from typing import Any

from pgjax.data.jsonl import JsonlSource
from pgjax.data.tfds_source import TfdsSource
from pgjax.errors import UserError
from pgjax.registry import SOURCES

_VARIABLE = "PGJAX_DATA"


def default_data_dir() -> str:
    """Returns the folder of prepared data sets: `$PGJAX_DATA`, or else the folder of TFDS."""
    return os.environ.get(_VARIABLE) or os.path.expanduser(
        os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    )


@SOURCES.register("prepared")
class PreparedSource:
    """Random access to a split of a prepared benchmark; images stay encoded."""

    def __init__(self, dataset: str, split: str, data_dir: str = ""):
        """Opens the newest version of a data set.

        Args:
          dataset: its name for `pgjax prepare`, with or without `:version`.
          split: as TFDS writes it, such as `train+validation[:90%]`.
          data_dir: the folder that it was written to; "" for `default_data_dir()`.

        Raises:
          UserError: the data set is not prepared there, or has no such split.
        """
        self._args = (dataset, split, data_dir)
        name, _, version = dataset.partition(":")
        root = pathlib.Path(data_dir or default_data_dir())
        versions = {p: _version(p) for p in root.joinpath(name).glob(version or "*")}
        folders = sorted((numbers, p) for p, numbers in versions.items() if numbers is not None)
        if not folders:
            raise UserError(
                f"{dataset!r} is not prepared in {root}; pgjax prepare {name} --help "
                f"says how. Another folder: --config.data_dir=DIR or ${_VARIABLE}."
            )
        self._parts: list[JsonlSource | TfdsSource]
        _, folder = folders[-1]
        if any(folder.glob("*.jsonl")):
            self._parts = [_jsonl(folder, part) for part in split.replace(" ", "").split("+")]
        else:
            self._parts = [TfdsSource(f"{name}:{folder.name}", split, str(root))]

    def __reduce__(self) -> tuple[Any, ...]:
        return PreparedSource, self._args

    def __len__(self) -> int:
        """Returns the number of examples in the split."""
        return sum(map(len, self._parts))

    def _find(self, index: int) -> tuple[JsonlSource | TfdsSource, int]:
        for part in self._parts:
            if index < len(part):
                return part, index
            index -= len(part)
        raise IndexError(index)

    def where(self, index: int) -> str:
        """Returns the example's place, for messages."""
        part, index = self._find(index)
        return part.where(index)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one example."""
        part, index = self._find(index)
        return part[index]


def _version(folder: pathlib.Path) -> tuple[int, ...] | None:
    numbers = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", folder.name)
    return numbers and tuple(map(int, numbers.groups()))


def _jsonl(folder: pathlib.Path, part: str) -> JsonlSource:
    name, bracket, bounds = part.partition("[")
    path = folder / f"{name}.jsonl"
    if not path.exists():
        known = sorted(p.stem for p in folder.glob("*.jsonl"))
        raise UserError(f"{folder} has no split {name!r}; it has {known}.")
    return JsonlSource(str(path), f"all{bracket}{bounds}")
