"""Parquet files, and data sets that Hugging Face's library `datasets` wrote, read as they are."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Int64

from pgjax.data.arrow_files import ArrowFile
from pgjax.data.columns import IMAGE, Columns
from pgjax.data.dataset_folder import find_splits
from pgjax.data.source_files import Chain, ImagePaths
from pgjax.data.splits import names_in, pick, shuffled
from pgjax.errors import DataError, UserError
from pgjax.registry import SOURCES
from pgjax.schema import Rule


@SOURCES.register("parquet")
@SOURCES.register("datasets")
class ArrowSource:
    """Random access to the rows of parquet files, or of a data set of Hugging Face on disk.

    The image of a row is encoded bytes, a path, a struct of both as `datasets` writes it, or a list
    of these. Numbers of classes become their names, and empty values are left out.
    """

    def __init__(
        self,
        fname: str,
        split: str = "all",
        root: str | None = None,
        allow_outside_root: bool = False,
        *,
        image: str = IMAGE,
        prefix: str = "",
        suffix: str = "",
        shuffle: bool = False,
        seed: Annotated[int, Rule(at_least=0)] = 0,
        if_empty: str = "",
    ):
        """Finds the files, and reads what they say about their rows.

        Args:
          fname: parquet or arrow files, such as `data/*.parquet`, or a folder that `save_to_disk`
            wrote, or whose files are named by their splits.
          split: see `pgjax.data.splits`; `validation[:50%]` where a folder has named splits.
          root: folder that image paths are relative to; None or empty for each file's own.
          allow_outside_root: whether absolute paths, and paths that leave the root, are allowed.
          image: the column of the image.
          prefix: the column of the prompt; "" for `prefix`, if there is one.
          suffix: the column of the target; "" for `suffix`, if there is one.
          shuffle: whether the split counts rows in a random order instead of the files'. Rows that
            name the same image file stay together.
          seed: of that order, which depends on it and on the files alone.
          if_empty: the split to take where `split` leaves nothing of a small set; "" for an error.

        Raises:
          UserError: missing or damaged files, no row, a missing column, or a split that does not
            fit.
        """
        if not fname:
            raise UserError("fname is empty; set config.input.data.fname to files or a folder.")
        self._columns = Columns(image, prefix, suffix)
        self._root = (root, allow_outside_root)
        splits = find_splits(fname)
        files = {
            name: [*map(ArrowFile, paths)]
            if _means(split, name) or (if_empty and _means(if_empty, name))
            else []
            for name, paths in splits.items()
        }
        self._files = Chain(file for some in files.values() for file in some)
        if any(files.values()) and not len(self._files):
            raise UserError(f"{fname} holds no row.")
        for name, some in files.items():
            for file in some if _means(split, name) else ():
                try:
                    self._columns.check(file.columns)
                except DataError as e:
                    raise UserError(f"{file.path}: {e}") from None
        counts = {name: sum(map(len, some)) for name, some in files.items()}
        order = (lambda: _order(files.values(), image, seed)) if shuffle else None
        self._picked = pick(fname, split, if_empty, counts.get("", counts), order)

    def __len__(self) -> int:
        """Returns the number of examples in the split."""
        return len(self._picked)

    def where(self, index: int) -> str:
        """Returns the example's place, `file:row`, counted from 0."""
        file, row = self._find(index)
        return f"{file.path}:{row}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one example.

        Raises:
          DataError: the row has no image, or one that cannot be read, or lacks a column.
        """
        file, number = self._find(index)
        row = {key: value for key, value in file[number].items() if value is not None}
        name = self._columns.image
        if name not in row:
            raise DataError(f"the row has no {name!r}.")
        root, anywhere = self._root
        row[name] = _image(row[name], ImagePaths(root, file.path, anywhere))
        return self._columns.named(row)

    def _find(self, index: int) -> tuple[ArrowFile, int]:
        return self._files.find(self._picked[index])


def _means(split: str, name: str) -> bool:
    """Whether a split's text names a split; one without a name is always meant."""
    return not name or bool(names_in(split) & {name, "all"})


def _order(splits: Iterable[Sequence[ArrowFile]], image: str, seed: int) -> Int64[np.ndarray, " n"]:
    """The order of all rows, in which splits follow one another, each in a random order."""
    parts, start = [np.zeros(0, np.int64)], 0
    for files in splits:
        known: dict[Any, int] = {}
        names = [name for file in files for name in file.image_names(image)]
        keys = (i if name is None else repr(name) for i, name in enumerate(names))
        groups = np.array([known.setdefault(key, len(known)) for key in keys], np.int64)
        parts.append(shuffled(groups, seed) + start)
        start += len(groups)
    return np.concatenate(parts)


def _image(value: Any, paths: ImagePaths) -> Any:
    if isinstance(value, list):
        return [_image(one, paths) for one in value]
    if isinstance(value, dict) and {"bytes", "path"} & value.keys():
        value = value.get("bytes") or value.get("path")
    return value if isinstance(value, bytes) else paths.read(value)
