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
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, BinaryIO

from pgjax.errors import DataError, UserError, note

_PACKED = {".gz": gzip.open, ".tgz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
# How often what is compressed may be larger than it is in the archive: text of annotations is some
# ten times larger; beyond that there is some room for small files.
_RATIO, _ROOM = 100, 64 << 20
_LONGEST_LINE = 64 << 20  # bytes of a line of JSON


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
                info = _zip(self.path).getinfo(self.inside)
                if info.file_size > _RATIO * info.compress_size + _ROOM:
                    raise ValueError(f"{info.file_size} bytes are in {info.compress_size}")
                return _zip(self.path).read(info)
            with open(self.path, "rb") as f:
                if self.inside is None:
                    return f.read()
                offset, size = self.inside
                f.seek(offset)
                content = f.read(size)
            if len(content) != size:
                raise ValueError(f"the archive ends after {len(content)} of its {size} bytes")
            return content
        except Exception as e:  # zipfile and its codecs raise whatever damaged bytes lead to
            raise DataError(f"{self.name} in {self.path} cannot be read ({reason(e)})") from e

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
        try:
            _, starts = _parquet(self.file)
            group = max(i for i, start in enumerate(starts) if start <= self.row)
            value = _row_group(self.file, group, self.column)[self.row - starts[group]].as_py()
        except Exception as e:  # pyarrow has errors of its own
            raise DataError(f"{self.name} cannot be read ({reason(e)})") from e
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
        self.place, self.at_start = "", True  # the record that was read last; if it is the first
        self._parsed: tuple[str | Member, Any] = "", None
        # Last part of the path -> members, those outside of archives first.
        self._index: dict[str, list[Member]] = {}
        archives, self._packed = [], []
        inside = {self.source: {self.source.resolve()}}  # folder -> those that it lies in
        for folder, folders, names in os.walk(self.source, followlinks=True):
            above = inside.pop(pathlib.Path(folder))
            real = {name: pathlib.Path(folder, name).resolve() for name in folders}
            # A link to a folder above it would be followed for ever.
            folders[:] = sorted(name for name in folders if real[name] not in above)
            inside.update({pathlib.Path(folder, n): above | {real[n]} for n in folders})
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
        except Exception as e:  # both libraries raise whatever damaged bytes lead to
            raise UserError(f"The archive {path} cannot be read ({reason(e)}).") from e

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
                        _copy(f, g, _RATIO * os.path.getsize(path) + _ROOM)
                except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as e:
                    part.unlink(missing_ok=True)
                    raise UserError(f"{path} cannot be decompressed ({reason(e)}).") from e
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

    def _each(self, rows: Iterator[tuple[str, Any]], of_text: bool = False) -> Iterator[Any]:
        """Yields records of a file, and keeps the place of the newest for messages."""
        before, first = (self.place, self.at_start), True
        for place, row in rows:
            self.place, self.at_start, first = place, first, False
            if not isinstance(row, str if of_text else dict):
                raise DataError(
                    f"it is {_kind(row)}, expected {'text' if of_text else 'an object'}"
                )
            yield row
        self.place, self.at_start = before

    def text(self, name: str | Member) -> str:
        """Reads a file as UTF-8 text, without a byte-order mark; `.gz` is decompressed."""
        content = self._needed(name)
        if _of(name).endswith(".gz"):
            out = io.BytesIO()
            try:
                with gzip.open(io.BytesIO(content)) as f:
                    _copy(f, out, _RATIO * len(content) + _ROOM)
            except (OSError, EOFError, zlib.error, ValueError) as e:
                raise UserError(f"{_of(name)} cannot be decompressed ({reason(e)}).") from e
            content = out.getvalue()
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as e:
            raise UserError(f"{_of(name)} is not text in UTF-8 ({e}).") from None

    def lines(self, name: str | Member) -> Iterator[str]:
        """Yields the lines of a text file that are not blank."""
        lines = enumerate(self.text(name).split("\n"), 1)
        rows = ((f"{_of(name)}:{i}", line.rstrip("\r")) for i, line in lines if line.strip())
        yield from self._each(rows, of_text=True)

    def json(self, name: str | Member) -> Any:
        """Reads a JSON file; the one read last is kept, as several parts of it may be asked for."""
        if self._parsed[0] != name:
            self._parsed = name, _json(self._needed(name), _of(name))
        return self._parsed[1]

    def _content(self, name: str | Member, kind: type, *keys: str) -> Any:
        at = _of(name)
        found = self.pickle(name) if at.endswith(".p") else self.json(name)
        for wanted, key in [*((dict, key) for key in keys), (kind, "")]:
            if not isinstance(found, wanted):
                expected = "an object" if wanted is dict else "a list"
                raise DataError(f"{at} holds {_kind(found)}, expected {expected}")
            if key and key not in found:
                raise DataError(f"{at} has no {key!r}")
            found, at = (found[key], f"{at}: {key}") if key else (found, at)
        return found

    def rows(self, name: str | Member, *keys: str, of_text: bool = False) -> Iterator[Any]:
        """Yields the objects, or texts, of a list at `keys` in a JSON file or pickle."""
        at = ".".join(keys)
        content = enumerate(self._content(name, list, *keys))
        yield from self._each(((f"{_of(name)}: {at}[{i}]", row) for i, row in content), of_text)

    def entries(self, name: str | Member, *keys: str) -> Iterator[tuple[str, Any]]:
        """Yields the keys and objects of an object in a JSON file, which lies at `keys`."""
        content = self._content(name, dict, *keys)
        at = ".".join((*keys, ""))
        places = ((f"{_of(name)}: {at}{key[:80]}", row) for key, row in content.items())
        yield from zip(content, self._each(places), strict=True)

    def jsonl(self, name: str | Member) -> Iterator[Any]:
        """Yields the objects in the lines of a JSON-lines file that are not blank."""
        yield from self._each(
            (place, _json(line, place))
            for place, line in (
                (f"{_of(name)}:{i}", line) for i, line in enumerate(self._lines(name), 1)
            )
            if line.strip()
        )

    def _lines(self, name: str | Member) -> Iterator[bytes | str]:
        """Yields lines without reading all, since some compressed files are gigabytes."""
        member = name if isinstance(name, Member) else self[name]
        opener = _PACKED.get(os.path.splitext(member.name.lower())[1], open)
        if not member or member.inside is not None:
            # JSON has line separators of its own, at which lines do not end.
            yield from self._needed(member).split(b"\n")
            return
        try:
            with opener(member.path, "rb") as f:
                while line := f.readline(_LONGEST_LINE):
                    if len(line) == _LONGEST_LINE:
                        raise ValueError(f"a line is longer than {_LONGEST_LINE} bytes")
                    yield line
        except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as e:
            raise UserError(f"{member.name} cannot be read ({reason(e)}).") from e

    def csv(self, name: str | Member, **options) -> Iterator[dict[str, str]]:
        """Yields rows of a CSV file by column name; `delimiter="\\t"` reads a TSV file."""
        csv.field_size_limit(1 << 30)
        rows = csv.DictReader(io.StringIO(self.text(name), newline=""), **options)
        yield from self._each((f"{_of(name)}:{rows.line_num}", row) for row in rows)

    def pickle(self, name: str | Member) -> Any:
        """Reads a pickle of plain values; classes, which could run code, are refused."""
        try:
            return _PlainUnpickler(io.BytesIO(self._needed(name)), encoding="utf-8").load()
        except Exception as e:  # whatever damaged bytes lead to
            raise UserError(f"{_of(name)} is no pickle of plain values ({reason(e)}).") from e

    def parquet(self, name: str | Member, later: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
        """Yields rows of a parquet file; those in `later` are `Cell`s, read when needed."""
        member = name if isinstance(name, Member) else self[name]
        if not member:
            self._needed(member)
        try:
            yield from self._each(_parquet_rows(member, later))
        except (DataError, GeneratorExit):
            raise
        except Exception as e:  # pyarrow has errors of its own
            raise UserError(f"{member.name} is no parquet file ({reason(e)}).") from e


def _parquet_rows(member: Member, later: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    table, starts = _parquet(member)
    columns = [c for c in table.schema_arrow.names if c not in later]
    for group, start in enumerate(starts):
        rows = table.read_row_group(group, columns=columns).to_pylist()
        for i, row in enumerate(rows, start):
            cells = {c: Cell(f"{member.name}#{i}/{c}", member, i, c) for c in later}
            yield f"{member.name}#{i}", {**row, **cells}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def reason(e: BaseException) -> str:
    """What an exception says, on one line and without a full stop."""
    said = " ".join(str(e).split()).rstrip(".")
    if isinstance(e, UserError):
        return said
    if isinstance(e, KeyError) and e.args:
        return f"{e.args[0]!r} is missing"
    return f"{type(e).__name__}: {said}" if said else type(e).__name__


def _copy(source: IO[bytes] | gzip.GzipFile, out: BinaryIO, most: int) -> None:
    while chunk := source.read(1 << 22):
        if (most := most - len(chunk)) < 0:
            raise ValueError(f"it is more than {_RATIO} times larger than compressed")
        out.write(chunk)


def _json(data: bytes | str, place: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as e:
        raise UserError(f"{place} is not JSON ({e}).") from None


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


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
