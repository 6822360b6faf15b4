"""Files of a source folder and of the zip and tar archives in it, by the end of their path."""

import bz2
import csv
import dataclasses
import fnmatch
import functools
import gzip
import io
import json
import lzma
import os
import pathlib
import pickle
import shutil
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from pgjax.errors import DataError, UserError, note

_PACKED = {".gz": gzip.open, ".tgz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@dataclasses.dataclass(frozen=True)
class Member:
    """A file in the source or in one of its archives, which is read when it is needed.

    Attributes:
      name: path in the source or the archive, for messages and for names of files.
      path: path of the file or the archive; "" for a file that does not exist.
      inside: the name in a zip archive, or offset and size in a tar; None for a file of its own.
    """

    name: str
    path: str = ""
    inside: str | tuple[int, int] | None = None

    def read(self) -> bytes:
        """Reads the content.

        Raises:
          DataError: the file does not exist or is damaged.
        """
        if not self.path:
            raise DataError(f"{self.name} is not among the source's files")
        try:
            if isinstance(self.inside, str):
                return _zip(self.path).read(self.inside)
            with open(self.path, "rb") as f:
                if self.inside is None:
                    return f.read()
                offset, size = self.inside
                f.seek(offset)
                return f.read(size)
        except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as e:
            raise DataError(f"{self.name} in {self.path} cannot be read ({e})") from e

    def __bool__(self) -> bool:
        return bool(self.path)


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a parquet file, such as an image, which is read when it is needed."""

    name: str
    file: Member
    row: int
    column: str

    def read(self) -> bytes:
        """Reads the bytes, which may be wrapped in `{bytes, path}`, as Hugging Face stores them.

        Raises:
          DataError: the cell is empty or does not hold bytes.
        """
        _, starts = _parquet(self.file)
        group = max(i for i, start in enumerate(starts) if start <= self.row)
        value = _row_group(self.file, group, self.column)[self.row - starts[group]].as_py()
        value = value.get("bytes") if isinstance(value, dict) else value
        if value is None:
            raise DataError(f"{self.name} is empty")
        if not isinstance(value, bytes):
            raise DataError(f"{self.name} holds {type(value).__name__}, expected bytes")
        return value


class Files:
    """Finds files by the end of their path, wherever they lie in the source.

    `files["val2014/COCO_val2014_000000000042.jpg"]` is that file in any folder of the source, or in
    an archive such as `val2014.zip`; files outside of archives are preferred. Nothing is unpacked,
    except tar archives that are compressed as a whole: once, when a file is not found elsewhere.
    """

    def __init__(self, source: pathlib.Path | str, unpacked: pathlib.Path | str):
        """Lists the source and its archives.

        Args:
          source: folder with the official files.
          unpacked: folder for decompressed tar archives.

        Raises:
          UserError: there is no such folder, or an archive cannot be read.
        """
        self.source, self._unpacked = pathlib.Path(source), pathlib.Path(unpacked)
        if not self.source.is_dir():
            raise UserError(f"--source {source} is no folder.")
        # Last part of the path -> members, those outside of archives first.
        self._index: dict[str, list[Member]] = {}
        archives, self._packed = [], []
        for folder, folders, names in os.walk(self.source, followlinks=True):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                self._add(Member(os.path.relpath(path, self.source), path))
                stem, suffix = os.path.splitext(name.lower())
                if suffix in (".zip", ".tar"):
                    archives.append(path)
                elif suffix == ".tgz" or (suffix in _PACKED and stem.endswith(".tar")):
                    self._packed.append(path)
        for path in archives:
            self._list_archive(path)

    def _add(self, member: Member) -> None:
        if f"/{member.name}".startswith("/__MACOSX/") or "/._" in f"/{member.name}":
            return  # what a Mac adds beside every file, under the same suffix
        # Some file systems take names with accents apart.
        member = dataclasses.replace(member, name=unicodedata.normalize("NFC", member.name))
        self._index.setdefault(member.name.rpartition("/")[2], []).append(member)

    def _list_archive(self, path: str) -> None:
        try:
            if zipfile.is_zipfile(path):
                for info in _zip(path).infolist():
                    if not info.is_dir():
                        self._add(Member(info.filename, path, info.filename))
            else:
                with tarfile.open(path, "r:") as tar:
                    for info in tar:
                        if info.isfile():
                            self._add(Member(info.name, path, (info.offset_data, info.size)))
        except (OSError, zipfile.BadZipFile, tarfile.TarError) as e:
            raise UserError(f"The archive {path} cannot be read ({e}).") from None

    def _unpack(self) -> bool:
        """Decompresses tar archives that are not listed yet; returns whether there were any."""
        packed, self._packed = self._packed, []
        for path in packed:
            name = os.path.relpath(path, self.source).replace("/", "_")
            out = self._unpacked / f"{name}.tar"
            if not out.exists():
                note(f"decompressing {path}")
                out.parent.mkdir(parents=True, exist_ok=True)
                part = out.with_suffix(".part")
                try:
                    with (
                        _PACKED[os.path.splitext(path.lower())[1]](path) as f,
                        part.open("wb") as g,
                    ):
                        shutil.copyfileobj(f, g, 1 << 22)
                except (OSError, EOFError, lzma.LZMAError) as e:
                    raise UserError(f"{path} cannot be decompressed ({e}).") from None
                part.replace(out)
            self._list_archive(str(out))
        return bool(packed)

    def _found(self, name: str) -> list[Member]:
        members = self._index.get(name.rpartition("/")[2], ())
        return [m for m in members if m.name == name or m.name.endswith(f"/{name}")]

    def __getitem__(self, name: str) -> Member:
        """Finds a file; where there is none, the `Member` is false and cannot be read.

        Raises:
          UserError: the paths of several files end so.
        """
        name = unicodedata.normalize("NFC", name)
        found = self._found(name)
        if not found and self._unpack():
            found = self._found(name)
        if not found:
            return Member(name)
        best = [m for m in found if m.inside is None] or found
        if len(best) > 1:
            shown = [f"{m.path}: {m.name}" if m.inside else m.path for m in best[:3]]
            raise UserError(f"{name} is there more than once, e.g. {shown}; keep one of them.")
        return best[0]

    def first(self, *names: str) -> Member:
        """Finds the first of several names under which the owners have published a file."""
        return next((member for member in map(self.__getitem__, names) if member), self[names[0]])

    def glob(self, pattern: str) -> list[Member]:
        """Lists files whose path, or its end, matches a pattern such as `annotations/*.json`."""

        def matching():
            found = [
                m for members in self._index.values() for m in members
                if fnmatch.fnmatchcase(f"/{m.name}", f"*/{pattern}")
            ]  # fmt: skip
            return sorted(found, key=lambda m: (m.name, m.path))

        found = matching()
        return matching() if not found and self._unpack() else found

    def _needed(self, name: str | Member) -> bytes:
        try:
            return (name if isinstance(name, Member) else self[name]).read()
        except DataError as e:
            raise UserError(f"{self.source}: {e}; --help says where to get it.") from None

    def text(self, name: str | Member) -> str:
        """Reads a file as UTF-8 text, without a byte-order mark."""
        return self._needed(name).decode("utf-8-sig")

    def json(self, name: str | Member) -> Any:
        """Reads a JSON file."""
        try:
            return json.loads(self._needed(name))
        except ValueError as e:
            raise UserError(f"{_of(name)} is not JSON ({e}).") from None

    def jsonl(self, name: str | Member) -> Iterator[Any]:
        """Yields the lines of a JSON-lines file that are not blank."""
        for number, line in enumerate(self._lines(name), 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as e:
                    raise UserError(f"{_of(name)}:{number} is not JSON ({e}).") from None

    def _lines(self, name: str | Member) -> Iterator[bytes | str]:
        """Yields lines without reading all, since some compressed files are gigabytes."""
        member = name if isinstance(name, Member) else self[name]
        opener = _PACKED.get(os.path.splitext(member.name.lower())[1], open)
        if not member or member.inside is not None:
            # JSON has line separators of its own, at which lines do not end.
            yield from self._needed(member).split(b"\n")
            return
        with opener(member.path, "rb") as f:
            yield from f

    def csv(self, name: str | Member, **options) -> Iterator[dict[str, str]]:
        """Yields rows of a CSV file by column name; `delimiter="\\t"` reads a TSV file."""
        csv.field_size_limit(1 << 30)
        yield from csv.DictReader(io.StringIO(self.text(name), newline=""), **options)

    def pickle(self, name: str | Member) -> Any:
        """Reads a pickle of plain values; classes, which could run code, are refused."""
        try:
            return _PlainUnpickler(io.BytesIO(self._needed(name)), encoding="utf-8").load()
        except (pickle.UnpicklingError, EOFError, ValueError) as e:
            raise UserError(f"{_of(name)} is no pickle of plain values ({e}).") from None

    def parquet(self, name: str | Member, later: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
        """Yields rows of a parquet file; those in `later` are `Cell`s, read when needed."""
        member = name if isinstance(name, Member) else self[name]
        if not member:
            self._needed(member)
        table, starts = _parquet(member)
        columns = [c for c in table.schema_arrow.names if c not in later]
        for group, start in enumerate(starts):
            rows = table.read_row_group(group, columns=columns).to_pylist()
            for i, row in enumerate(rows, start):
                cells = {c: Cell(f"{member.name}#{i}/{c}", member, i, c) for c in later}
                yield {**row, **cells}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _of(name: str | Member) -> str:
    return name.name if isinstance(name, Member) else name


@functools.lru_cache(maxsize=64)
def _zip(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


@functools.lru_cache(maxsize=16)
def _parquet(member: Member) -> tuple[Any, list[int]]:
    """Opens a parquet file; returns it, and the number of the first row of each row group."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise UserError(
            "Parquet files need pyarrow: pip install 'paligemma-jax[prepare]'."
        ) from None
    # From its own path, so that it is not held in memory, unless it lies in an archive.
    table = parquet.ParquetFile(member.path if member.inside is None else io.BytesIO(member.read()))
    starts, total = [], 0
    for i in range(table.num_row_groups):
        starts.append(total)
        total += table.metadata.row_group(i).num_rows
    return table, starts


@functools.lru_cache(maxsize=4)
def _row_group(member: Member, group: int, column: str) -> Any:
    table, _ = _parquet(member)
    return table.read_row_group(group, columns=[column]).column(0)
