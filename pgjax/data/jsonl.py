"""JSONL files: one example per line, with its image as a path or inline."""

import base64
import json
import os
import pathlib
import re
from typing import IO, Annotated, Any

import fsspec
import numpy as np
from jaxtyping import Int32, Int64

from pgjax.data.splits import EmptySplit, Picked, parse_split, shuffled
from pgjax.errors import DataError, UserError, note
from pgjax.registry import SOURCES
from pgjax.schema import Rule

_CHUNK = 1 << 22  # bytes of lines that are indexed together
_IMAGE = re.compile(rb'"image(?:_base64)?"\s*:\s*("(?:[^"\\]|\\.)*+"|\[[^\]]*+\])')
# How compressed and other files begin, what they are, and how they become what can be read.
_OTHER_FILES = (
    (b"\x1f\x8b", "compressed by gzip", "gunzip -k {}"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", "zstd -d {}"),
    (b"\xff\xfe", "in UTF-16", "iconv -f UTF-16 -t UTF-8 {} > new.jsonl"),
    (b"\xfe\xff", "in UTF-16", "iconv -f UTF-16 -t UTF-8 {} > new.jsonl"),
    (b"PAR1", "a parquet file", "pgjax make-jsonl {} --out new.jsonl"),
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
        self.root = os.path.expanduser(root or "") or self.fname[: self.fname.rfind("/") + 1]
        self.allow_outside_root = allow_outside_root
        try:
            with _open(self.fname) as f:
                _check_start(f.read(4), self.fname)
                f.seek(0)
                self._ends, self._numbers, groups = _index(f, grouped=shuffle)
        except UserError:
            raise
        except Exception as e:  # fsspec's file systems have errors of their own
            raise UserError(f"jsonl: {self.fname} cannot be read ({_reason(e)}).") from e
        if not len(self._numbers):
            raise UserError(f"jsonl: {self.fname} holds no example.")
        order = shuffled(groups, seed) if shuffle else None
        self._picked = Picked(self._ranges(split, if_empty), order)

    def _ranges(self, split: str, if_empty: str) -> list[range]:
        count = len(self._numbers)
        try:
            try:
                return parse_split(split, count)
            except EmptySplit as e:
                if not if_empty:
                    raise
                found = parse_split(if_empty, count)
                note(f"jsonl: {self.fname}: {str(e).removesuffix('.')}; {if_empty!r} is used.")
                return found
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
            if isinstance(e, FileNotFoundError) and "\\" in value:  # written on Windows
                return self._image(value.replace("\\", "/"))
            raise DataError(f"image {_shown(path)} cannot be read ({_reason(e)}).") from e

    def _resolve(self, value: str) -> str:
        path = value if "://" in value else os.path.join(self.root, value)
        try:
            inside = self.allow_outside_root or _inside(self.root, value)
        except ValueError as e:  # a NUL, or half of a surrogate pair
            raise DataError(f"image {value!r} is no path ({e}).") from None
        if not inside:
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


def _check_start(start: bytes, fname: str) -> None:
    for magic, what, command in _OTHER_FILES:
        if start.startswith(magic):
            raise UserError(
                f"jsonl: {fname} is {what}, expected JSON lines in UTF-8; first run: "
                f"{command.format(fname)}"
            )


def _shown(path: str) -> str:
    """A path for messages, which a terminal can write."""
    return path.encode("utf-8", "backslashreplace").decode()


def _reason(e: Exception) -> str:
    return getattr(e, "strerror", None) or str(e) or type(e).__name__


def _decode(text: Any) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (AttributeError, ValueError) as e:
        raise DataError(f"the inline image is not base64 ({e}).") from None


def _index(
    f: IO[bytes], *, grouped: bool = False
) -> tuple[Int64[np.ndarray, " n"], Int32[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Finds the lines that are not blank.

    A line is read from the end of the one before; JSON ignores blank lines between them.

    Args:
      f: the file.
      grouped: whether lines are grouped by their image.

    Returns:
      Where each line ends, in bytes; its number from 1; and, if `grouped`, which image it is about,
      counted from 0 (a line without any is alone).
    """
    ends: list[np.ndarray] = [np.zeros(0, np.int64)]
    numbers: list[np.ndarray] = [np.zeros(0, np.int32)]
    groups: list[int] = []
    known: dict[int, int] = {}
    position, number = 0, 0
    while lines := f.readlines(_CHUNK):
        stops = position + np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)))
        full = np.fromiter((not line.isspace() for line in lines), bool, len(lines))
        ends.append(stops[full])
        numbers.append((number + 1 + np.flatnonzero(full)).astype(np.int32))
        if grouped:
            for i in np.flatnonzero(full).tolist():
                image = _IMAGE.search(lines[i])
                key = hash(image[1]) if image else -1 - number - i
                groups.append(known.setdefault(key, len(known)))
        position = int(stops[-1])
        number += len(lines)
    return np.concatenate(ends), np.concatenate(numbers), np.array(groups, np.int64)
