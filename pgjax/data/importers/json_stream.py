"""Reads a large JSON file piece by piece, so that memory holds one element and not the file."""

import gzip
import json
import pathlib
from collections.abc import Iterator
from typing import IO, Any

from pgjax.errors import UserError

_CHUNK = 1 << 20  # characters that are read together
_SPACE = " \t\n\r"


def elements(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    """Yields (key, element) for each element of the arrays in a JSON object, in their order.

    Values that are no arrays come whole, with their key. The file may be compressed by gzip, and
    may be in UTF-8 or UTF-16, with a byte order mark or without.

    Raises:
      UserError: the file cannot be read, or is no JSON object.
    """
    try:
        with _opened(path) as f:
            yield from _Scanner(f).object()
    except (OSError, EOFError, UnicodeError) as e:
        raise UserError(f"{path} cannot be read ({e}).") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply to be read.") from None
    except ValueError as e:
        raise UserError(f"{path} is not a JSON object ({e}).") from None


def _opened(path: pathlib.Path) -> IO[str]:
    with open(path, "rb") as f:
        start = f.read(4)
    zipped = start[:2] == b"\x1f\x8b"
    if zipped:
        with gzip.open(path, "rb") as f:
            start = f.read(4)
    if start == b"\x28\xb5\x2f\xfd":
        raise UserError(f"{path} is compressed by Zstandard; unpack it first: zstd -d {path}.")
    return (gzip.open if zipped else open)(path, "rt", encoding=json.detect_encoding(start))


class _Scanner:
    """Reads JSON from a file, as much of it at a time as a value needs."""

    def __init__(self, file: IO[str]):
        self._file, self._text, self._at, self._ended = file, "", 0, False
        self._decoder = json.JSONDecoder()

    def object(self) -> Iterator[tuple[str, Any]]:
        """Yields what `elements` yields."""
        self._expect("{")
        while self._peek() != "}":
            key = self._value()
            if not isinstance(key, str):
                raise ValueError(f"expected a key, got {str(key)[:40]!r}")
            self._expect(":")
            if self._peek() == "[":
                for element in self._array():
                    yield key, element
            else:
                yield key, self._value()
            if self._peek() != ",":
                break
            self._expect(",")
        self._expect("}")

    def _array(self) -> Iterator[Any]:
        self._expect("[")
        while self._peek() != "]":
            yield self._value()
            if self._peek() != ",":
                break
            self._expect(",")
        self._expect("]")

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                if end < len(self._text) or self._ended:
                    self._at = end
                    return value
            except json.JSONDecodeError:
                if self._ended:
                    raise
            self._fill()

    def _peek(self) -> str:
        """The next character that is no white space; "" at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._fill()

    def _expect(self, char: str) -> None:
        if (got := self._peek()) != char:
            raise ValueError(f"expected {char!r}, got {got!r}")
        self._at += 1

    def _fill(self) -> None:
        rest = self._text[self._at :]
        # As much again as there is, so that a long value is not scanned too often.
        more = self._file.read(max(_CHUNK, len(rest)))
        self._ended = not more
        self._text, self._at = rest + more, 0
