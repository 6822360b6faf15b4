"""Predictions on disk: appended as they come, one ordered file in the end.

    NAME.json             what was evaluated: everything that predictions depend on
    NAME.parts/K.jsonl    what process K has so far; gone once all is done
    NAME.jsonl            all predictions in order

A run that stops at any moment goes on from the parts, on any number of processes that see the
folder; a line that was cut is dropped.
"""

import array
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from pgjax.errors import UserError

Record = dict[str, Any]


class Records(Sequence):
    """The lines of a JSONL file; only their places are in memory."""

    def __init__(self, path: pathlib.Path):
        """Reads the file once to find its lines."""
        self.path = path
        self._starts = array.array("q", [0])
        with path.open("rb") as f:
            for line in f:
                self._starts.append(self._starts[-1] + len(line))

    def __len__(self) -> int:
        """Number of records."""
        return len(self._starts) - 1

    def __getitem__(self, index: int | slice) -> Any:
        """A record, or a list of them."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        with self.path.open("rb") as f:
            f.seek(self._starts[index])
            return json.loads(f.readline())

    def __iter__(self) -> Iterator[Record]:
        """All of them, one at a time."""
        with self.path.open("rb") as f:
            yield from map(json.loads, f)


class Store:
    """Where an evaluation keeps its records, and what it finds there from before."""

    def __init__(
        self,
        folder: pathlib.Path,
        name: str,
        identity: Mapping[str, Any],
        about: Mapping[str, Any] | None = None,
        restart: bool = False,
    ):
        """Opens the folder; every process does.

        Args:
          folder: seen by all processes.
          name: of the evaluation.
          identity: what predictions depend on, JSON-able.
          about: further things to be known about them, which may change.
          restart: drops what is stored.

        Raises:
          UserError: the folder has predictions of something else, or lines that are no records.
        """
        self.path = folder / f"{name}.jsonl"
        self._what, self._parts = folder / f"{name}.json", folder / f"{name}.parts"
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
        _wait("read")  # before anybody writes
        self._new: list[str] = []
        try:
            self._parts.mkdir(parents=True, exist_ok=True)
            if first:
                content = {"identity": identity, "about": dict(about or {})}
                write_whole(self._what, [json.dumps(content, indent=1, default=plain) + "\n"])
            self._own = self._parts / f"{jax.process_index()}.jsonl"
            _drop_cut_line(self._own)
        except OSError as e:
            raise UserError(f"{folder} cannot be written ({e}).") from None

    def add(self, record: Record) -> None:
        """Takes a record with its `index`."""
        self._new.append(as_line(record))

    def flush(self) -> None:
        """Appends what was added; from here on it survives the death of the process."""
        with self._own.open("ab") as f:
            f.write("".join(self._new).encode())
        self._new.clear()

    def finish(self) -> Records:
        """Brings the records of all processes into order, in one file."""
        self.flush()
        _wait("written")
        if jax.process_index() == 0:
            write_whole(self.path, _merged(self._files()))
            shutil.rmtree(self._parts)
        _wait("merged")
        return Records(self.path)

    def replace(self, records: Sequence[Record]) -> None:
        """Writes the ordered file anew, after something was added to the records."""
        if jax.process_index() == 0:
            write_whole(self.path, map(as_line, records))
        _wait("replaced")

    def _files(self) -> list[pathlib.Path]:
        final = [self.path] if self.path.exists() else []
        return final + sorted(self._parts.glob("*.jsonl"))

    def _check(self, identity: Mapping[str, Any]) -> None:
        try:
            before = json.loads(self._what.read_text())["identity"]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"{self.path.parent} has predictions, but no {self._what.name} that says of what; "
                "choose another folder, or start over with --restart."
            ) from None
        for key in sorted(before.keys() | identity.keys()):
            if before.get(key) != identity.get(key):
                raise UserError(
                    f"{self.path.parent} holds predictions of another evaluation: {key} was "
                    f"{_short(before.get(key))}, is {_short(identity.get(key))}; choose another "
                    "folder, or start over with --restart."
                )


class InMemoryStore:
    """The same in memory, for what is small and not to be continued."""

    done: frozenset[int] = frozenset()

    def __init__(self):
        """Empty."""
        self._records: list[Record] = []

    def add(self, record: Record) -> None:
        """Keeps a record."""
        self._records.append(record)

    def flush(self) -> None:
        """Nothing to be done."""

    def finish(self) -> list[Record]:
        """The records of all processes in order."""
        parts = gather_json(self._records)
        return sorted((r for part in parts for r in part), key=lambda r: r["index"])

    def replace(self, records: Sequence[Record]) -> None:
        """Nothing to be done."""


def gather_json(value: Any) -> list[Any]:
    """Every process's JSON-able value, in the order of the processes."""
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(json.dumps(value, default=plain).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([data.size], np.int32)).reshape(-1)
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: data.size] = data
    rows = multihost_utils.process_allgather(padded).reshape(len(sizes), -1)
    return [json.loads(rows[i, :n].tobytes()) for i, n in enumerate(sizes)]


def as_line(record: Record) -> str:
    """One line of JSON; what JSON cannot hold is written as its repr."""
    return json.dumps(record, ensure_ascii=False, default=plain) + "\n"


def plain(value: Any) -> Any:
    """Arrays as lists."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else repr(value)


def write_whole(path: pathlib.Path, lines: Any) -> None:
    """Writes strings or bytes; the file appears whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as f:
        f.writelines(line if isinstance(line, bytes) else line.encode() for line in lines)
    part.replace(path)


def _lines(path: pathlib.Path) -> Iterator[tuple[int, int, int]]:
    """(index of the record, where its line starts, its length); not of a line that was cut."""
    start = 0
    with path.open("rb") as f:
        for number, line in enumerate(f, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield int(json.loads(line)["index"]), start, len(line)
            except (ValueError, KeyError, TypeError):
                raise UserError(
                    f"{path}:{number} is no stored prediction: {line[:80]!r}; delete the file, or "
                    "start over with --restart."
                ) from None
            start += len(line)


def _merged(files: list[pathlib.Path]) -> Iterator[bytes]:
    """The lines of files, by index; of several with one index, the first."""
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
    if not path.exists():
        return
    whole = 0
    with path.open("rb") as f:
        for line in f:
            whole += len(line) if line.endswith(b"\n") else 0
    os.truncate(path, whole)


def _wait(what: str) -> None:
    """Until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"predictions {what}")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 100 else text[:97] + "…"
