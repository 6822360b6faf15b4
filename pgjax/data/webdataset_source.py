"""WebDataset's tars, of which single samples are read."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np

from pgjax.data.columns import IMAGE, Columns
from pgjax.data.source_files import IMAGE_SUFFIXES, Chain, find_files, read_bytes
from pgjax.data.splits import pick, shuffled
from pgjax.data.tar_index import TarIndex, index_of
from pgjax.errors import DataError, UserError
from pgjax.registry import SOURCES
from pgjax.schema import Rule

MOST_BYTES = 1 << 28  # of a sample


def row_of(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Returns the columns of a sample, given its files by kind.

    The keys of `.json` are columns; `.txt` is the column `text`, and any other `.NAME.txt` or
    `.cls` the column of that name. Images and other files stay bytes, under their kind.

    Raises:
      DataError: a file is not what its kind says.
    """
    row: dict[str, Any] = {}
    for kind, data in sorted(files.items(), key=lambda one: one[0] != "json"):
        try:
            if kind == "json":
                found = json.loads(data)
                if not isinstance(found, dict):
                    raise DataError(f".json is a {type(found).__name__}, expected an object.")
                row |= found
            elif kind in ("txt", "cls") or kind.endswith(".txt"):
                name = "text" if kind == "txt" else kind.removesuffix(".txt")
                row[name] = data.decode().strip()
            else:
                row[kind] = data
        except (ValueError, RecursionError) as e:
            raise DataError(f".{kind} cannot be read ({e}).") from None
    return row


def image_in(files: Mapping[str, bytes]) -> str:
    """Returns the kind of the image among a sample's files.

    Raises:
      DataError: there is none, or more than one.
    """
    kinds = [kind for kind in files if f".{kind.rpartition('.')[2]}" in IMAGE_SUFFIXES]
    if len(kinds) != 1:
        raise DataError(f"has {sorted(files)}, expected one image among them.")
    return kinds[0]


@SOURCES.register("webdataset")
class WebDatasetSource:
    """Random access to the samples of WebDataset's tars, which are not unpacked.

    A sample is the files that share a name up to its first dot: an image, `.txt` as the target,
    and `.json` with any keys. Where each lies is found once, and kept in the cache.
    """

    def __init__(
        self,
        fname: str,
        split: str = "all",
        *,
        image: str = IMAGE,
        prefix: str = "",
        suffix: str = "",
        shuffle: bool = False,
        seed: Annotated[int, Rule(at_least=0)] = 0,
        if_empty: str = "",
    ):
        """Finds the samples, with one pass over the headers of tars that are new.

        Args:
          fname: local or remote tars, such as `shards/{000..012}.tar` or `train-*.tar`.
          split: see `pgjax.data.splits`.
          image: the kind of file that is the image, such as `left.jpg`; `image` for the only one.
          prefix: the key of the prompt; "" for `prefix`, which samples may leave out.
          suffix: the key of the target; "" for `suffix`, or else the text of `.txt`.
          shuffle: whether the split counts samples in a random order instead of the tars'.
          seed: of that order, which depends on it and on the tars alone.
          if_empty: the split to take where `split` leaves nothing of a small set; "" for an error.

        Raises:
          UserError: a missing, compressed or damaged tar, no sample, a first sample without what
            `image`, `prefix` or `suffix` names, or a split that does not fit.
        """
        if not fname:
            raise UserError("webdataset: fname is empty; set config.input.data.fname=FILES.tar.")
        self._columns = Columns(image, prefix, suffix)
        self._tars = Chain(map(index_of, find_files(fname)))
        count = len(self._tars)
        if not count:
            raise UserError(f"{fname} holds no sample, such as 000.jpg with 000.txt.")
        order = (lambda: shuffled(np.arange(count), seed)) if shuffle else None
        self._picked = pick(fname, split, if_empty, count, order)
        if (image, prefix, suffix) != Columns():  # which the first sample shows
            try:
                self[0]
            except DataError as e:
                raise UserError(f"{self.where(0)}: {e}") from None

    def __len__(self) -> int:
        """Returns the number of examples in the split."""
        return len(self._picked)

    def where(self, index: int) -> str:
        """Returns the example's place, `tar:key`."""
        tar, sample = self._find(index)
        return f"{tar.path}:{tar.key(sample)}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one example.

        Raises:
          DataError: the sample has no image, or lacks a key, or one of its files cannot be used.
        """
        tar, sample = self._find(index)
        members = tar.members(sample)
        start = members[0].start
        end = members[-1].start + members[-1].size
        if end - start > MOST_BYTES:
            raise DataError(f"the sample has {end - start:,} bytes, {MOST_BYTES:,} are allowed.")
        data = read_bytes(tar.path, start, end)
        if len(data) != end - start:
            raise DataError("the tar has become shorter since its samples were found.")
        files = {m.kind: data[m.start - start : m.start - start + m.size] for m in members}
        if len(files) < len(members):
            raise DataError(f"has two files of a kind among {[m.kind for m in members]}.")
        return self._example(files)

    def _example(self, files: dict[str, bytes]) -> dict[str, Any]:
        kind = self._columns.image
        kind = image_in(files) if kind == IMAGE else kind
        row = row_of(files)
        columns = self._columns._replace(image=kind)
        if not columns.suffix and "suffix" not in row and "text" in row:
            columns = columns._replace(suffix="text")
        example = columns.named(row)
        return {k: v for k, v in example.items() if k == IMAGE or not isinstance(v, bytes)}

    def _find(self, index: int) -> tuple[TarIndex, int]:
        return self._tars.find(self._picked[index])
