"""Stores predictions: each process appends its own, and in the end one file has all in order.

    NAME.json             the identity of the evaluation, which is all that predictions depend on
    NAME.parts/K.jsonl    the predictions of process K so far; removed when all are done
    NAME.jsonl            all predictions in order

An evaluation that stops at any moment can be continued from the parts, with any number of processes
that see the folder. A last line that is incomplete is dropped.
"""

import array
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import jax
import numpy as np
from jax.experimental import multihost_utils

from pgjax.errors import UserError, writing

Record = dict[str, Any]


class Records(Sequence[Record]):
    """The lines of a JSONL file, of which only the places are in memory."""

    def __init__(self, path: pathlib.Path) -> None:
        """Reads the file once to find its lines."""
        self.path = path
        self._starts = array.array("q", [0])
        with path.open("rb") as f:
            for line in f:
                self._starts.append(self._starts[-1] + len(line))

    def __len__(self) -> int:
        """Returns the number of records."""
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        """Returns a record, or a list of records."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        with self.path.open("rb") as f:
            f.seek(self._starts[index])
            return json.loads(f.readline())

    def __iter__(self) -> Iterator[Record]:
        """Reads all records, one at a time."""
        with self.path.open("rb") as f:
            yield from map(json.loads, f)


class Store:
    """Stores the records of an evaluation in a folder.

    Attributes:
      path: the file of all records in order, which `finish` writes.
      done: the indices of the examples whose records were stored when the store was opened.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        name: str,
        identity: Mapping[str, Any],
        about: Mapping[str, Any] | None = None,
        restart: bool = False,
    ) -> None:
        """Opens the store; every process has to.

        Args:
          folder: the folder, which all processes see.
          name: the name of the evaluation.
          identity: what predictions depend on, as values that JSON can hold.
          about: further facts about the predictions, which may change between runs.
          restart: whether to drop the predictions that are stored.

        Raises:
          UserError: the folder holds predictions of another evaluation or lines that are not
            records, or it cannot be written.
        """
        self.path = folder / f"{name}.jsonl"
        self._about, self._parts = folder / f"{name}.json", folder / f"{name}.parts"
        first = jax.process_index() == 0
        if restart:
            if first:
                shutil.rmtree(self._parts, ignore_errors=True)
                self.path.unlink(missing_ok=True)
            _wait("restart")
        identity = json.loads(json.dumps(identity))
        if self._files():
            self._check(identity)
        self.done = {index for file in self._files() for index, _, _ in _lines(file)}
        _wait("read")  # all processes have read before one writes
        self._new: list[str] = []
        with writing(folder):
            self._parts.mkdir(parents=True, exist_ok=True)
            if first:
                content = {"identity": identity, "about": dict(about or {})}
                write_whole(self._about, [json.dumps(content, indent=1, default=plain) + "\n"])
            self._own = self._parts / f"{jax.process_index()}.jsonl"
            _drop_cut_line(self._own)

    def add(self, record: Record) -> None:
        """Adds a record, which has the `index` of its example."""
        self._new.append(as_line(record))

    def flush(self) -> None:
        """Writes the added records to the disk, where they survive the end of the process.

        Raises:
          UserError: they cannot be written.
        """
        with writing(self._own), self._own.open("ab") as f:
            f.write("".join(self._new).encode())
        self._new.clear()

    def finish(self) -> Records:
        """Writes the records of all processes to one file, in order, and returns them.

        Raises:
          UserError: they cannot be written.
        """
        self.flush()
        _wait("written")
        if jax.process_index() == 0:
            write_whole(self.path, _merged(self._files()))
            shutil.rmtree(self._parts)
        _wait("merged")
        return Records(self.path)

    def replace(self, records: Sequence[Record]) -> None:
        """Writes the file of all records again, after scores were added to the records."""
        if jax.process_index() == 0:
            write_whole(self.path, map(as_line, records))
        _wait("replaced")

    def _files(self) -> list[pathlib.Path]:
        final = [self.path] if self.path.exists() else []
        return final + sorted(self._parts.glob("*.jsonl"))

    def _check(self, identity: Mapping[str, Any]) -> None:
        try:
            before = dict(json.loads(self._about.read_text())["identity"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            raise UserError(
                f"{self.path.parent} has predictions, but no {self._about.name} that says what was "
                "evaluated; choose another folder, or start over with --restart."
            ) from None
        for key in sorted(before.keys() | identity.keys()):
            if before.get(key) != identity.get(key):
                raise UserError(
                    f"{self.path.parent} holds predictions of another evaluation: {key} was "
                    f"{_short(before.get(key))}, is {_short(identity.get(key))}; choose another "
                    "folder, or start over with --restart."
                )


class InMemoryStore:
    """Keeps the records of an evaluation in memory, for evaluations that are not continued."""

    done: frozenset[int] = frozenset()

    def __init__(self) -> None:
        """Opens an empty store."""
        self._records: list[Record] = []

    def add(self, record: Record) -> None:
        """Adds a record, which has the `index` of its example."""
        self._records.append(record)

    def flush(self) -> None:
        """Does nothing, because there is no file."""

    def finish(self) -> list[Record]:
        """Returns the records of all processes, in order."""
        parts = gather_json(self._records)
        return sorted((r for part in parts for r in part), key=lambda r: r["index"])

    def replace(self, records: Sequence[Record]) -> None:
        """Does nothing, because there is no file."""


def gather_json(value: Any) -> list[Any]:
    """Gathers a value that JSON can hold from every process, in the order of the processes."""
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(json.dumps(value, default=plain).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([data.size], np.int32)).reshape(-1)
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: data.size] = data
    rows = multihost_utils.process_allgather(padded).reshape(len(sizes), -1)
    return [json.loads(rows[i, :n].tobytes()) for i, n in enumerate(sizes)]


def as_line(record: Record) -> str:
    """Formats a record as one line of JSON, see `plain` for values that JSON cannot hold."""
    return json.dumps(record, ensure_ascii=False, default=plain) + "\n"


def plain(value: Any) -> Any:
    """Returns an array as a list, and any other value that JSON cannot hold as its repr."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else repr(value)


def write_whole(path: pathlib.Path, lines: Iterable[str | bytes]) -> None:
    """Writes lines to a file, which appears complete or not at all.

    Raises:
      UserError: it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    with writing(path):
        try:
            with part.open("wb") as f:
                f.writelines(line if isinstance(line, bytes) else line.encode() for line in lines)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _lines(path: pathlib.Path) -> Iterator[tuple[int, int, int]]:
    """Yields (index of the record, start of its line, length of its line) for complete lines."""
    start = 0
    with path.open("rb") as f:
        for number, line in enumerate(f, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield int(json.loads(line)["index"]), start, len(line)
            except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
                raise UserError(
                    f"{path}:{number} is no stored prediction: {line[:80]!r}; delete the file, or "
                    "start over with --restart."
                ) from None
            start += len(line)


def _merged(files: list[pathlib.Path]) -> Iterator[bytes]:
    """Yields the lines of all files by index; of lines with the same index, only the first."""
    columns = [array.array("q") for _ in range(4)]
    for n, file in enumerate(files):
        for place in _lines(file):
            for column, value in zip(columns, (n, *place), strict=True):
                column.append(value)
    number, index, start, length = (np.array(c, np.int64) for c in columns)
    _, order = np.unique(index, return_index=True)
    opened = [file.open("rb") for file in files]
    try:
        for i in order.tolist():
            f = opened[number[i]]
            f.seek(int(start[i]))
            yield f.read(int(length[i]))
    finally:
        for f in opened:
            f.close()


def _drop_cut_line(path: pathlib.Path) -> None:
    """Cuts off a last line that is incomplete."""
    if not path.exists():
        return
    whole = 0
    with path.open("rb") as f:
        for line in f:
            whole += len(line) if line.endswith(b"\n") else 0
    os.truncate(path, whole)


def _wait(what: str) -> None:
    """Waits until every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"predictions {what}")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 100 else text[:97] + "…"
