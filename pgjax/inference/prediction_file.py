"""The file of `pgjax predict --out`: it appears whole, and work that was interrupted goes on.

Predictions are appended to `NAME.part` as they are made, after a first line that says what they
depend on. In the end they are put in order and written to `NAME`.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from pgjax.errors import UserError, writing

Record = dict[str, Any]


def as_line(record: Mapping[str, Any]) -> str:
    """One line of JSON; a value that JSON cannot hold is written as its `repr`."""
    return json.dumps(record, ensure_ascii=False, default=repr)


class PredictionFile:
    """Stores predictions by the index of their example.

    Attributes:
      done: the indices of the examples whose predictions are stored already.
    """

    def __init__(
        self, path: pathlib.Path, identity: Mapping[str, Any], *, restart: bool, writes: bool = True
    ) -> None:
        """Opens the file, before any work is done.

        Args:
          path: of the finished file.
          identity: what predictions depend on, as values that JSON can hold.
          restart: whether a finished file, or predictions of before, are discarded.
          writes: whether this process writes; others only read what is done.

        Raises:
          UserError: the folder does not exist or cannot be written, or there is a finished file, or
            there are predictions that depend on other things.
        """
        self._path, self._part = path, path.with_name(path.name + ".part")
        self._writes = writes
        header = json.loads(json.dumps(dict(identity), default=str))
        if path.is_dir():
            raise UserError(f"--out {path} is a folder, expected the name of a file.")
        if not path.parent.is_dir():
            raise UserError(f"--out {path}: the folder {path.parent} does not exist.")
        if path.exists() and not restart:
            raise UserError(f"--out {path} exists already; --restart replaces it.")
        self._records: dict[int, Record] = {}
        if self._part.exists() and not restart:
            self._read(header)
        self.done = frozenset(self._records)
        if writes:
            self._begin(header)

    def add(self, record: Record) -> None:
        """Stores a record, which has the `index` of its example; it survives an interruption.

        Raises:
          UserError: it cannot be written.
        """
        self._records[record["index"]] = record
        if self._writes:
            with writing(f"--out {self._path}"), self._part.open("ab") as f:
                f.write(_line(record))

    def finish(self) -> int:
        """Writes the finished file, in order, and returns the number of its lines.

        Raises:
          UserError: it cannot be written.
        """
        if self._writes:
            self._replace(self._path, [self._records[index] for index in sorted(self._records)])
            self._part.unlink()
        return len(self._records)

    def _begin(self, header: Mapping[str, Any]) -> None:
        """Writes what is known so far, without a last line that was cut off."""
        self._replace(self._part, [header, *self._records.values()])

    def _replace(self, path: pathlib.Path, records: Iterable[Mapping[str, Any]]) -> None:
        """Writes a file that appears whole: a kill, or a full disk, leaves what was there."""
        new = self._part.with_name(self._part.name + ".new")
        with writing(f"--out {self._path}"):
            try:
                new.write_bytes(b"".join(map(_line, records)))
                new.replace(path)
            finally:
                new.unlink(missing_ok=True)

    def _read(self, header: Mapping[str, Any]) -> None:
        first, *lines = self._part.read_bytes().split(b"\n")[:-1] or [b""]
        try:
            before = dict(json.loads(first))
            self._records = {(record := json.loads(line))["index"]: record for line in lines}
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{self._part} holds no predictions that can be continued; --restart discards it."
            ) from None
        for key in header:
            if before.get(key) != header[key]:
                raise UserError(
                    f"{self._part} holds predictions with {key} {before.get(key)!r}, not "
                    f"{header[key]!r}; choose another --out, or start over with --restart."
                )


def _line(record: Mapping[str, Any]) -> bytes:
    # A lone surrogate, which UTF-8 cannot hold, becomes the escape that JSON has for it.
    return (as_line(record) + "\n").encode("utf-8", "backslashreplace")
