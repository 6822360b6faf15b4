"""Files that data sources read, local or remote: by a pattern, and images by their paths."""

import base64
import bisect
import glob
import itertools
import os
import pathlib
import re
from collections.abc import Iterable, Sequence, Sized
from typing import IO, Any, Generic, TypeVar

import fsspec

from pgjax.errors import DataError, UserError

F = TypeVar("F", bound=Sized)

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic",
)  # fmt: skip
Others = Sequence[tuple[bytes, str, str]]  # how files begin, what they are, and the way out
COMPRESSED: Others = (
    (b"\x1f\x8b", "compressed by gzip", "unpack it first by `gunzip -k {}`."),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", "unpack it first by `zstd -d {}`."),
    (b"BZh", "compressed by bzip2", "unpack it first by `bunzip2 -k {}`."),
    (b"\xfd7zXZ", "compressed by xz", "unpack it first by `unxz -k {}`."),
)
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


def open_file(path: str) -> IO[bytes]:
    """Opens a local or remote file for reading."""
    if "://" not in path:
        return open(path, "rb")
    filesystem, name = fsspec.url_to_fs(path)
    return filesystem.open(name, "rb")


def read_bytes(path: str, start: int = 0, end: int | None = None) -> bytes:
    """Reads bytes [start, end) of a local or remote file, and no others."""
    if "://" in path:
        filesystem, name = fsspec.url_to_fs(path)
        return filesystem.cat_file(name, **({} if end is None else {"start": start, "end": end}))
    with open(path, "rb") as f:
        f.seek(start)
        return f.read(-1 if end is None else end - start)


def version_of(path: str) -> str:
    """Returns what changes with a file's content: its path, size, and time or checksum."""
    if "://" in path:
        filesystem, name = fsspec.url_to_fs(path)
        return f"{path} {filesystem.checksum(name)}"
    found = os.stat(path)
    return f"{os.path.realpath(path)} {found.st_size} {found.st_mtime_ns}"


def refuse_start(
    start: bytes, what: str, fname: str, expected: str, others: Others = COMPRESSED
) -> None:
    """Refuses a file by how it begins.

    Args:
      start: its first bytes.
      what: the source and the file, for messages.
      fname: the file.
      expected: what it should be.
      others: what it must not be.

    Raises:
      UserError: it is one of `others`.
    """
    for magic, kind, way_out in others:
        if start.startswith(magic):
            raise UserError(f"{what} is {kind}, expected {expected}; {way_out.format(fname)}")


def reason(e: Exception) -> str:
    """What an error says, without the path that the message around it names."""
    return getattr(e, "strerror", None) or str(e) or type(e).__name__


def shown(path: str) -> str:
    """A path for messages, which a terminal can write."""
    return path.encode("utf-8", "backslashreplace").decode()


def find_files(pattern: str) -> list[str]:
    """Returns the files or folders of a pattern: `shards/{000..012}.tar`, `data/*.parquet`.

    Braces are expanded in the order in which they are written, each of which must exist; what a
    pattern with `*`, `?` or `[…]` finds is sorted.

    Raises:
      UserError: there is none, or one that braces name is missing.
    """
    found: list[str] = []
    for name in _expand(os.path.expanduser(pattern)):
        try:
            if "://" in name:
                filesystem, path = fsspec.url_to_fs(name)
                paths = filesystem.glob(path) if glob.has_magic(path) else [path]
                some = [filesystem.unstrip_protocol(str(p)) for p in paths if filesystem.exists(p)]
            elif os.path.exists(name):
                some = [name]
            else:
                some = glob.glob(name, recursive=True)
        except Exception as e:  # fsspec's file systems have errors of their own
            raise UserError(f"{shown(name)} cannot be read ({reason(e)}).") from e
        if not some:
            raise UserError(f"{shown(name)} cannot be read (No such file or directory).")
        found += sorted(some)
    return list(dict.fromkeys(found))


def _expand(pattern: str) -> list[str]:
    """Expands `{000..012}` and `{a,b}`, as a shell does."""
    match = _BRACES.search(pattern)
    if not match:
        return [pattern]
    first, last, names = match.groups()
    if first is None:
        parts = names.split(",")
    elif int(first) > int(last) or int(last) - int(first) >= 1_000_000:
        raise UserError(f"{pattern}: {match[0]} is no range of at most a million numbers.")
    else:
        parts = [f"{i:0{len(first)}}" for i in range(int(first), int(last) + 1)]
    whole = (f"{pattern[: match.start()]}{part}{pattern[match.end() :]}" for part in parts)
    return list(itertools.chain.from_iterable(map(_expand, whole)))


class Chain(Generic[F]):
    """Files whose records are counted through, from one file to the next."""

    def __init__(self, files: Iterable[F]):
        """Takes the files, whose lengths are their numbers of records."""
        self._files = [*files]
        self._ends = [*itertools.accumulate(map(len, self._files))]

    def __len__(self) -> int:
        """Returns the number of records in all files."""
        return self._ends[-1] if self._ends else 0

    def find(self, index: int) -> tuple[F, int]:
        """Returns the file of a record, and the record's number in it; `index` is from 0."""
        part = bisect.bisect_right(self._ends, index)
        return self._files[part], index - (self._ends[part - 1] if part else 0)


class ImagePaths:
    """Reads images that examples name by paths relative to a root, or hold as `data:` URLs."""

    def __init__(self, root: str | None, beside: str, allow_outside_root: bool):
        """Sets the root.

        Args:
          root: the folder; None or empty for that of the file `beside`.
          beside: the file that holds the paths.
          allow_outside_root: whether absolute paths, and paths that leave the root, are allowed.
        """
        self._root = os.path.expanduser(root or "") or beside[: beside.rfind("/") + 1]
        self._anywhere = allow_outside_root

    def read(self, value: Any) -> bytes:
        """Returns the encoded bytes of an image.

        Raises:
          DataError: the value is no path or `data:` URL, leaves the root, or cannot be read.
        """
        if not isinstance(value, str):
            raise DataError(f"'image' is a {type(value).__name__}, expected a path.")
        if value.startswith("data:"):
            header, _, data = value.partition(",")
            if not header.endswith(";base64"):
                raise DataError(f"'image' is a URL {header[:80]!r}…, expected data:…;base64,….")
            return decode_base64(data)
        path = self._resolve(value)
        try:
            return read_bytes(path)
        except Exception as e:
            if isinstance(e, FileNotFoundError) and "\\" in value:  # written on Windows
                return self.read(value.replace("\\", "/"))
            raise DataError(f"image {shown(path)} cannot be read ({reason(e)}).") from e

    def _resolve(self, value: str) -> str:
        path = value if "://" in value else os.path.join(self._root, value)
        try:
            inside = self._anywhere or _inside(self._root, value)
        except ValueError as e:  # a NUL, or half of a surrogate pair
            raise DataError(f"image {value!r} is no path ({e}).") from None
        if not inside:
            raise DataError(
                f"image {value!r} is absolute or leaves {self._root or 'the folder of the file'!r};"
                " allow_outside_root=True allows it."
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


def decode_base64(text: Any) -> bytes:
    """Decodes an inline image, in which white space may be.

    Raises:
      DataError: it is not base64.
    """
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (AttributeError, ValueError) as e:
        raise DataError(f"the inline image is not base64 ({e}).") from None
