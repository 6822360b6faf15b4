"""JSONL files: one example per line, with its image as a path or inline."""

import json
import os
import re
from typing import IO, Annotated, Any

import numpy as np
from jaxtyping import Int32, Int64

from pgjax.data.columns import IMAGE, Columns
from pgjax.data.source_files import (
    COMPRESSED,
    ImagePaths,
    decode_base64,
    open_file,
    read_bytes,
    reason,
    refuse_start,
)
from pgjax.data.splits import pick, shuffled
from pgjax.errors import DataError, UserError
from pgjax.registry import SOURCES
from pgjax.schema import Rule

_CHUNK = 1 << 22  # bytes of lines that are indexed together
_INLINE = "image_base64"  # the key of an image in the line itself
_VALUE = rb'\s*:\s*("(?:[^"\\]|\\.)*+"|\[[^\]]*+\])'
_EXPECTED = "JSON lines in UTF-8"
_UTF_16 = ("in UTF-16", "convert it first by `iconv -f UTF-16 -t UTF-8 {} > new.jsonl`.")
_OTHER_FILES = (
    *COMPRESSED,
    (b"\xff\xfe", *_UTF_16),
    (b"\xfe\xff", *_UTF_16),
    (b"PAR1", "a parquet file", "data.name=parquet reads it."),
)


@SOURCES.register("jsonl")
class JsonlSource:
    """Random access to the examples of a JSONL file; only line offsets are kept in memory.

    A line is an object with `image` (a path, or a list of paths) or `image_base64` (a string, or
    a `data:` URL in `image`), and any other keys. An example has encoded bytes, or a list of
    them, under `image`, and the other keys unchanged. File and images may be remote (`gs://`,
    `s3://`, `https://`, …), through fsspec.
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
        """Builds the index with one pass over the file.

        Args:
          fname: local or remote file.
          split: see `pgjax.data.splits`.
          root: folder that image paths are relative to; None or empty for the file's own.
          allow_outside_root: whether absolute paths, and paths that leave the root, are allowed.
          image: the key of the image.
          prefix: the key of the prompt; "" for `prefix`, which lines may leave out.
          suffix: the key of the target; "" for `suffix`, which lines may leave out.
          shuffle: whether the split counts lines in a random order instead of the file's, so that a
            file that is sorted gives similar splits. Lines about one image stay together.
          seed: of that order, which depends on it and on the file alone.
          if_empty: the split to take where `split` leaves nothing of a small file; "" for an error.

        Raises:
          UserError: a missing or empty file, or a split that does not fit.
        """
        if not fname:
            raise UserError("jsonl: fname is empty; set config.input.data.fname=FILE.jsonl.")
        self.fname = os.path.expanduser(fname)
        self._columns = Columns(image, prefix, suffix)
        self._images = ImagePaths(root, self.fname, allow_outside_root)
        try:
            with open_file(self.fname) as f:
                refuse_start(f.read(4), f"jsonl: {self.fname}", self.fname, _EXPECTED, _OTHER_FILES)
                f.seek(0)
                self._ends, self._numbers, groups = _index(f, grouped=shuffle, image=image)
        except UserError:
            raise
        except Exception as e:  # fsspec's file systems have errors of their own
            raise UserError(f"jsonl: {self.fname} cannot be read ({reason(e)}).") from e
        count = len(self._numbers)
        if not count:
            raise UserError(f"jsonl: {self.fname} holds no example.")
        order = (lambda: shuffled(groups, seed)) if shuffle else None
        self._picked = pick(f"jsonl: {self.fname}", split, if_empty, count, order)

    def __len__(self) -> int:
        """Returns the number of examples in the split."""
        return len(self._picked)

    def where(self, index: int) -> str:
        """Returns the example's place, `file:line`."""
        return f"{self.fname}:{self._numbers[self._picked[index]]}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one example.

        Raises:
          DataError: the line or its image cannot be used.
        """
        record = self._picked[index]
        start = int(self._ends[record - 1]) if record else 0
        line = read_bytes(self.fname, start, int(self._ends[record]))
        try:
            example = json.loads(line.strip())
        except json.JSONDecodeError as e:
            raise DataError(f"the line is not JSON ({e.msg} at column {e.colno}).") from None
        except (ValueError, RecursionError) as e:
            raise DataError(f"the line is not JSON ({e}).") from None
        if not isinstance(example, dict):
            raise DataError(
                f"the line holds a {type(example).__name__}, expected an object with an 'image'."
            )
        columns = self._columns
        if (inline := example.pop(_INLINE, None)) is not None:
            example[columns.image] = decode_base64(inline)
        elif (value := example.get(columns.image)) is None:
            raise DataError(f"the example has no {columns.image!r}, it has {sorted(example)}.")
        elif isinstance(value, list):
            example[columns.image] = [self._images.read(v) for v in value]
        else:
            example[columns.image] = self._images.read(value)
        return columns.named(example)


def _index(
    f: IO[bytes], *, grouped: bool = False, image: str = IMAGE
) -> tuple[Int64[np.ndarray, " n"], Int32[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Finds the lines that are not blank.

    A line is read from the end of the one before; JSON ignores blank lines between them.

    Args:
      f: the file.
      grouped: whether lines are grouped by their image.
      image: the key of the image.

    Returns:
      Where each line ends, in bytes; its number from 1; and, if `grouped`, which image it is about,
      counted from 0 (a line without any is alone).
    """
    ends: list[np.ndarray] = [np.zeros(0, np.int64)]
    numbers: list[np.ndarray] = [np.zeros(0, np.int32)]
    groups: list[int] = []
    known: dict[int, int] = {}
    name = json.dumps(image).encode()[1:-1]
    image_of = re.compile(rb'"(?:%b|%b)"%b' % (re.escape(name), _INLINE.encode(), _VALUE))
    position, number = 0, 0
    while lines := f.readlines(_CHUNK):
        stops = position + np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)))
        full = np.fromiter((not line.isspace() for line in lines), bool, len(lines))
        ends.append(stops[full])
        numbers.append((number + 1 + np.flatnonzero(full)).astype(np.int32))
        if grouped:
            for i in np.flatnonzero(full).tolist():
                found = image_of.search(lines[i])
                key = hash(found[1]) if found else -1 - number - i
                groups.append(known.setdefault(key, len(known)))
        position = int(stops[-1])
        number += len(lines)
    return np.concatenate(ends), np.concatenate(numbers), np.array(groups, np.int64)
