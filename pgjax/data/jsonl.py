"""JSONL: one example a line, with its image as a path or inline."""

import base64
import binascii
import json
import os
import pathlib
from typing import IO, Any

import fsspec
import numpy as np

from pgjax.data.splits import Picked, parse_split
from pgjax.errors import DataError, UserError

_CHUNK = 1 << 22


def open_file(path: str) -> IO[bytes]:
    """Opens a local file, or a remote one (`gs://`, `s3://`, `https://`, …) through fsspec."""
    return fsspec.open(path, "rb").open() if "://" in path else open(path, "rb")


class JsonlSource:
    """Random access to the examples of a JSONL file; only line offsets are kept in memory.

    A line is an object with `image` (a path, or a list of paths) or `image_base64` (a string, or
    a `data:` URL in `image`), and any other keys. An example has encoded bytes, or a list of
    them, under `image`, and the other keys unchanged.
    """

    def __init__(
        self,
        fname: str,
        split: str = "all",
        root: str | None = None,
        allow_outside_root: bool = False,
    ):
        """Builds the index with one pass over the file.

        Args:
          fname: local or remote file.
          split: see `pgjax.data.splits`.
          root: folder that image paths are relative to; the file's own by default.
          allow_outside_root: permit absolute paths and paths that leave the root.

        Raises:
          UserError: missing or empty file, or a split that does not fit.
        """
        if not fname:
            raise UserError("jsonl: fname is not given; set config.input.data.fname=FILE.jsonl.")
        self.fname = str(fname)
        self.root = str(root) if root else os.path.dirname(self.fname)
        self.allow_outside_root = allow_outside_root
        try:
            with open_file(self.fname) as f:
                self._offsets, self._numbers = _index(f)
        except (OSError, ValueError, ImportError) as e:
            raise UserError(f"jsonl: {self.fname} cannot be read ({e}).") from None
        if not len(self._offsets):
            raise UserError(f"jsonl: {self.fname} holds no example.")
        self._picked = Picked(parse_split(split, len(self._offsets)))

    def __len__(self) -> int:
        """Number of examples in the split."""
        return len(self._picked)

    def where(self, index: int) -> str:
        """`file:line`."""
        return f"{self.fname}:{self._numbers[self._picked[index]]}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one example.

        Raises:
          DataError: the line or its image cannot be used.
        """
        with open_file(self.fname) as f:
            f.seek(int(self._offsets[self._picked[index]]))
            line = f.readline()
        try:
            example = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as e:
            raise DataError(f"not JSON ({e})") from None
        if not isinstance(example, dict):
            raise DataError(f"a {type(example).__name__}, expected an object with an 'image'")
        if (inline := example.pop("image_base64", None)) is not None:
            image = _decode(inline)
        elif (value := example.get("image")) is None:
            raise DataError(f"has no 'image', it has {sorted(example)}")
        elif isinstance(value, list):
            image = [self._read(v) for v in value]
        else:
            image = self._read(value)
        return {**example, "image": image}

    def _read(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise DataError(f"'image' is a {type(value).__name__}, expected a path")
        if value.startswith("data:"):
            return _decode(value.partition(",")[2])
        path = self._resolve(value)
        try:
            with open_file(path) as f:
                return f.read()
        except (OSError, ValueError, ImportError) as e:
            raise DataError(f"image {path} cannot be read ({e})") from None

    def _resolve(self, value: str) -> str:
        remote = "://" in value
        joined = value if remote else os.path.join(self.root, value)
        if not self.allow_outside_root:
            inside = not remote and not os.path.isabs(value)
            if "://" in self.root:
                inside = inside and ".." not in pathlib.PurePosixPath(value).parts
            elif inside:
                root = os.path.realpath(self.root)
                real = os.path.realpath(joined)
                inside = os.path.commonpath([root, real]) == root
            if not inside:
                raise DataError(
                    f"image {value!r} is outside {self.root or '.'!r}; allow_outside_root=True "
                    "permits it"
                )
        return joined


def _decode(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as e:
        raise DataError(f"the inline image is not base64 ({e})") from None


def _index(f: IO[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and numbers (from 1) of the lines that are not blank, 12 bytes a line."""
    offsets: list[np.ndarray] = []
    numbers: list[np.ndarray] = []
    position, number = 0, 0
    while chunk := f.readlines(_CHUNK):
        lengths = np.fromiter(map(len, chunk), np.int64, len(chunk))
        starts = position + np.concatenate([[0], np.cumsum(lengths)[:-1]])
        full = np.fromiter((not line.isspace() for line in chunk), bool, len(chunk))
        offsets.append(starts[full].astype(np.int64))
        numbers.append((number + 1 + np.flatnonzero(full)).astype(np.int32))
        position += int(lengths.sum())
        number += len(chunk)
    if not offsets:
        return np.zeros(0, np.int64), np.zeros(0, np.int32)
    return np.concatenate(offsets), np.concatenate(numbers)
