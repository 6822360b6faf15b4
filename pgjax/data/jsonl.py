"""JSONL files: one example per line, with its image as a path or inline."""

import base64
import json
import os
import pathlib
from typing import IO, Any

import fsspec
import numpy as np
from jaxtyping import Int32, Int64

from pgjax.data.splits import Picked, parse_split
from pgjax.errors import DataError, UserError
from pgjax.registry import SOURCES

_CHUNK = 1 << 22  # bytes of lines that are indexed together


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
    ):
        """Builds the index with one pass over the file.

        Args:
          fname: local or remote file.
          split: see `pgjax.data.splits`.
          root: folder that image paths are relative to; None or empty for the file's own.
          allow_outside_root: whether absolute paths, and paths that leave the root, are allowed.

        Raises:
          UserError: a missing or empty file, or a split that does not fit.
        """
        if not fname:
            raise UserError("jsonl: fname is empty; set config.input.data.fname=FILE.jsonl.")
        self.fname = str(fname)
        self.root = str(root) if root else self.fname[: self.fname.rfind("/") + 1]
        self.allow_outside_root = allow_outside_root
        try:
            with _open(self.fname) as f:
                self._ends, self._numbers = _index(f)
        except Exception as e:  # fsspec's file systems have errors of their own
            raise UserError(f"jsonl: {self.fname} cannot be read ({_reason(e)}).") from e
        if not len(self._numbers):
            raise UserError(f"jsonl: {self.fname} holds no example.")
        try:
            self._picked = Picked(parse_split(split, len(self._numbers)))
        except UserError as e:
            raise UserError(f"jsonl: {self.fname}: {e}") from None

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
        line = _read(self.fname, start, int(self._ends[record]))
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
        if (inline := example.pop("image_base64", None)) is not None:
            image = _decode(inline)
        elif (value := example.get("image")) is None:
            raise DataError(f"the example has no 'image', it has {sorted(example)}.")
        elif isinstance(value, list):
            image = [self._image(v) for v in value]
        else:
            image = self._image(value)
        return {**example, "image": image}

    def _image(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise DataError(f"'image' is a {type(value).__name__}, expected a path.")
        if value.startswith("data:"):
            header, _, data = value.partition(",")
            if not header.endswith(";base64"):
                raise DataError(f"'image' is a URL {header[:80]!r}…, expected data:…;base64,….")
            return _decode(data)
        path = self._resolve(value)
        try:
            return _read(path)
        except Exception as e:
            raise DataError(f"image {path} cannot be read ({_reason(e)}).") from e

    def _resolve(self, value: str) -> str:
        path = value if "://" in value else os.path.join(self.root, value)
        if not (self.allow_outside_root or _inside(self.root, value)):
            raise DataError(
                f"image {value!r} is absolute or leaves {self.root or 'the folder of the file'!r}; "
                "allow_outside_root=True allows it."
            )
        return path


def _inside(root: str, value: str) -> bool:
    """Whether a path is relative and stays in the root, symbolic links resolved."""
    if "://" in value or os.path.isabs(value):
        return False
    if "://" in root:
        return ".." not in pathlib.PurePosixPath(value).parts
    top = os.path.realpath(root)
    return os.path.commonpath([top, os.path.realpath(os.path.join(top, value))]) == top


def _open(path: str) -> IO[bytes]:
    if "://" not in path:
        return open(path, "rb")
    filesystem, name = fsspec.url_to_fs(path)
    return filesystem.open(name, "rb")


def _read(path: str, start: int = 0, end: int | None = None) -> bytes:
    """Reads bytes [start, end) of a local or remote file, and no others."""
    if "://" in path:
        filesystem, name = fsspec.url_to_fs(path)
        return filesystem.cat_file(name, **({} if end is None else {"start": start, "end": end}))
    with open(path, "rb") as f:
        f.seek(start)
        return f.read(-1 if end is None else end - start)


def _reason(e: Exception) -> str:
    return getattr(e, "strerror", None) or str(e) or type(e).__name__


def _decode(text: Any) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (AttributeError, ValueError) as e:
        raise DataError(f"the inline image is not base64 ({e}).") from None


def _index(f: IO[bytes]) -> tuple[Int64[np.ndarray, " n"], Int32[np.ndarray, " n"]]:
    """Where the lines that are not blank end, in bytes, and their numbers from 1.

    A line is read from the end of the one before; JSON ignores blank lines between them.
    """
    ends: list[np.ndarray] = [np.zeros(0, np.int64)]
    numbers: list[np.ndarray] = [np.zeros(0, np.int32)]
    position, number = 0, 0
    while lines := f.readlines(_CHUNK):
        stops = position + np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)))
        full = np.fromiter((not line.isspace() for line in lines), bool, len(lines))
        ends.append(stops[full])
        numbers.append((number + 1 + np.flatnonzero(full)).astype(np.int32))
        position = int(stops[-1])
        number += len(lines)
    return np.concatenate(ends), np.concatenate(numbers)
