"""Rows of parquet and arrow files, one after another or by their numbers.

Arrow files are mapped into memory. Of a parquet file, a group of rows is what can be read alone; if
one is large, a row by its number comes from a copy in arrow's format, which is made once and kept
in the cache.
"""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pgjax.cache import cache_folder
from pgjax.data.source_files import open_file, reason, version_of
from pgjax.errors import UserError, note

MOST_BYTES = 1 << 25  # of a group of rows that is read for the sake of one row
_ROWS = 64  # that are copied together
_GROUPS = 8  # that are kept in memory

Row = dict[str, Any]


def pyarrow() -> Any:
    """Returns the library.

    Raises:
      UserError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            "Parquet and arrow need pyarrow: pip install 'paligemma-jax[prepare]'."
        ) from None
    return pyarrow


def iterate_rows(path: str) -> Iterator[Row]:
    """Yields the rows of a file, with the names of classes instead of their numbers.

    Raises:
      UserError: it cannot be read.
    """
    with _opened(path) as (schema, batches):
        features = _features(schema)
        for batch in batches:
            batch.validate(full=True)  # of damaged bytes, arrow would read beyond the file
            yield from (_named(row, features) for row in batch.to_pylist())


class ArrowFile:
    """Random access to the rows of a parquet or arrow file.

    Attributes:
      path: the file.
      columns: the names of its columns.
    """

    def __init__(self, path: str):
        """Reads what the file says about its rows.

        Raises:
          UserError: it is in neither format, is damaged, or is remote and in arrow's format.
        """
        self.path, self._arrow = path, path.endswith(".arrow")
        try:
            self._key = (path, version_of(path))
        except Exception as e:  # of the operating system, or one of fsspec's file systems
            raise _unreadable(path, e) from e
        groups = [] if self._arrow else _groups(*self._key)
        if any(group.total_byte_size > MOST_BYTES for group in groups):
            self._arrow, self._key = True, (_copied(*self._key), "")
        if self._arrow:
            schema, batches = _mapped(*self._key)
            counts = [batch.num_rows for batch in batches]
        else:
            schema = _metadata(*self._key).schema.to_arrow_schema()
            counts = [group.num_rows for group in groups]
        try:
            self.columns: list[str] = list(schema.names)
            self._features = _features(schema)
        except ValueError as e:  # names that are not UTF-8
            raise _unreadable(path, e) from e
        self._ends = np.cumsum(counts, dtype=np.int64)

    def __len__(self) -> int:
        """The number of rows."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Row:
        """Reads one row.

        Raises:
          UserError: the file cannot be read any more.
        """
        part = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[part - 1]) if part else 0
        rows = _mapped(*self._key)[1][part] if self._arrow else _group(*self._key, part)
        row = rows.slice(index - first, 1)
        try:
            row.validate(full=True)  # of damaged bytes, arrow would read beyond the file
            return _named(row.to_pylist()[0], self._features)
        except ValueError as e:
            raise _unreadable(self.path, e) from e

    def image_names(self, column: str) -> list[Any]:
        """Returns the paths that a column of images has; None where a row holds the image itself.

        Raises:
          UserError: the file cannot be read any more.
        """
        types = pyarrow().types
        names: list[Any] = []
        with _opened(self._key[0], [column]) as (schema, batches):
            kind = schema.field(column).type
            inner = kind.value_type if types.is_list(kind) else kind
            if types.is_string(inner) or types.is_large_string(inner):
                for batch in batches:
                    names += batch.column(column).to_pylist()
            elif self._arrow and types.is_struct(kind):
                for batch in batches:
                    held = batch.column(column).field("bytes").is_valid().to_pylist()
                    paths = batch.column(column).field("path").to_pylist()
                    names += [None if h else p for h, p in zip(held, paths, strict=True)]
            else:  # parquet files of `datasets` hold the images
                names = [None] * len(self)
        return names


# ---- reading, with what was read last at hand in every process -----------------------------------


@functools.lru_cache(maxsize=4096)
def _mapped(path: str, version: str) -> tuple[Any, list[Any]]:
    """The schema of an arrow file, and its batches, whose pages are read when they are used."""
    del version  # a key of the cache
    with _opened(path) as (schema, batches):
        return schema, list(batches)


@functools.lru_cache(maxsize=4096)
def _metadata(path: str, version: str) -> Any:
    del version
    pq = pyarrow().parquet
    try:
        with open_file(path) as f:
            return pq.ParquetFile(f).metadata
    except Exception as e:
        raise _unreadable(path, e) from e


def _groups(path: str, version: str) -> list[Any]:
    found = _metadata(path, version)
    return [found.row_group(i) for i in range(found.num_row_groups)]


@functools.lru_cache(maxsize=_GROUPS)
def _group(path: str, version: str, index: int) -> Any:
    metadata = _metadata(path, version)
    try:
        with open_file(path) as f:
            return pyarrow().parquet.ParquetFile(f, metadata=metadata).read_row_group(index)
    except Exception as e:
        raise _unreadable(path, e) from e


@contextlib.contextmanager
def _opened(path: str, columns: list[str] | None = None) -> Iterator[tuple[Any, Iterator[Any]]]:
    """Opens a file for its schema, and its rows in batches; of a parquet file, only some columns.

    Raises:
      UserError: it cannot be read, here or while the file is open.
    """
    pa = pyarrow()
    try:
        if path.endswith(".parquet"):
            with open_file(path) as f:
                table = pa.parquet.ParquetFile(f)
                yield table.schema_arrow, table.iter_batches(_ROWS, columns=columns)
            return
        if "://" in path:
            raise UserError(f"{path} is remote; arrow files have to be local.")
        data = pa.memory_map(path)
        try:
            stream = pa.ipc.open_stream(data)
        except pa.ArrowInvalid:
            file = pa.ipc.open_file(data)
            yield file.schema, map(file.get_batch, range(file.num_record_batches))
        else:
            yield stream.schema, iter(stream)
    except (UserError, GeneratorExit):
        raise
    except Exception as e:  # of arrow, the operating system, or one of fsspec's file systems
        raise _unreadable(path, e) from e


def _unreadable(path: str, e: Exception) -> UserError:
    return UserError(f"{path} cannot be read ({' '.join(reason(e).split())[:200].rstrip('.')}).")


def _copied(path: str, version: str) -> str:
    """Copies a parquet file to one of arrow's, in batches of few rows, unless the cache has it."""
    folder = cache_folder() / "arrow"
    target = folder / f"{hashlib.sha256(version.encode()).hexdigest()[:24]}.arrow"
    if target.exists():
        return str(target)
    part = folder / f"{target.name}.{os.getpid()}.part"
    note(
        f"{path} has its rows in groups of more than {MOST_BYTES >> 20} MiB, out of which single "
        f"ones are slow to read; it is copied to {target}."
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _opened(path) as (schema, batches):
            _write(part, schema, batches, path)
        part.replace(target)
    except OSError as e:
        raise UserError(f"{path} cannot be copied to {target} ({reason(e)}).") from e
    return str(target)


def _write(part: pathlib.Path, schema: Any, batches: Iterator[Any], path: str) -> None:
    pa = pyarrow()
    try:
        with pa.OSFile(str(part), "wb") as f, pa.ipc.new_stream(f, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
    except Exception as e:
        part.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be copied to {part.parent} ({reason(e)}).") from e


# ---- names of classes ----------------------------------------------------------------------------


def _features(schema: Any) -> Any:
    """What the library `datasets` writes about columns; {} where there is nothing."""
    try:
        return json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}


def _named(value: Any, feature: Any) -> Any:
    """Replaces the numbers of classes by their names; lists are as their elements."""
    if isinstance(feature, list):
        return _named(value, feature[0] if feature else None)
    if not isinstance(feature, Mapping):
        return value
    if "feature" in feature and "_type" in feature:
        return _named(value, feature["feature"])
    if isinstance(value, list):
        return [_named(v, feature) for v in value]
    if isinstance(value, dict):
        return {k: _named(v, feature.get(k)) for k, v in value.items()}
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    return names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value
