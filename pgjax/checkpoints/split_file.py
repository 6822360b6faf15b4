"""An `.npz` that was released in parts, `NAME.npz.part0`, `NAME.npz.part1`, …, read as one file."""

import bisect
import io
import itertools
import os
import pathlib
import re
import zipfile
from collections.abc import Sequence
from typing import IO

from etils import epath

from pgjax.errors import UserError

_PART = re.compile(r"(.+\.npz)\.part[-_.]?(\w+)")


def find_npz(path: pathlib.Path) -> pathlib.Path | None:
    """The file itself, or the first of its parts where it lies in parts; None for neither."""
    if os.path.exists(path):  # False of what cannot be a path, such as thousands of characters
        return path
    parts = _parts(path.parent, path.name) if path.suffix == ".npz" else []
    return pathlib.Path(parts[0]) if parts else None


def npz_inside(folder: pathlib.Path) -> pathlib.Path | None:
    """The first `.npz` of a folder, whole or the first of its parts; None where there is none."""
    names = sorted(p.name for p in folder.glob("*.npz*"))
    whole = [name for name in names if name.endswith(".npz")]
    split = [match[1] for match in map(_PART.fullmatch, names) if match]
    return find_npz(folder / [*whole, *split][0]) if whole or split else None


def open_file(path: epath.Path) -> IO[bytes]:
    """Opens a file for reading; a part opens all of them as one file, which is not joined on disk.

    Raises:
      UserError: a part is missing.
      OSError: it cannot be read.
    """
    if not (match := _PART.fullmatch(path.name)):
        return path.open("rb")
    return io.BufferedReader(_Joined([epath.Path(part) for part in _parts(path.parent, match[1])]))


def is_whole(path: pathlib.Path) -> bool:
    """Whether an `.npz` has all its members, of which only headers are read."""
    try:
        with open_file(epath.Path(path)) as f, zipfile.ZipFile(f) as members:
            for info in members.infolist():
                members.open(info).close()
    except (OSError, EOFError, zipfile.BadZipFile, UserError):
        return False
    return True


def _parts(folder: os.PathLike, name: str) -> list[str]:
    """The paths of a file's parts in their order, `part9` before `part10`."""
    found = []
    for path in epath.Path(folder).iterdir() if os.path.isdir(folder) else ():
        match = _PART.fullmatch(path.name)
        if match and match[1] == name:
            found.append((len(match[2]), match[2], str(path)))
    found.sort()
    numbers = [int(text) for _, text, _ in found if text.isdecimal()]
    for before, after in itertools.pairwise(numbers if len(numbers) == len(found) else ()):
        if after != before + 1:
            raise UserError(
                f"Checkpoint {os.path.join(folder, name)} lies in parts, of which number "
                f"{before + 1} is missing between {before} and {after}."
            )
    return [path for _, _, path in found]


class _Joined(io.RawIOBase):
    """Files one after the other, as one that can be read."""

    def __init__(self, parts: Sequence[epath.Path]) -> None:
        self._parts = parts
        self._ends = list(itertools.accumulate(part.stat().length for part in parts))
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, (0, self._at, self._ends[-1])[whence] + offset)
        return self._at

    def readinto(self, buffer) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        i = bisect.bisect_right(self._ends, self._at)
        if i == len(self._parts):
            return 0
        with self._parts[i].open("rb") as f:
            f.seek(self._at - (self._ends[i - 1] if i else 0))
            count = f.readinto(buffer)  # pyright: ignore[reportAttributeAccessIssue]
        self._at += count
        return count
