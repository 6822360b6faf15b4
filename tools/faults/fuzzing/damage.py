"""Damages bytes, by a seed, and values of JSON, by Hypothesis."""

import contextlib
import fnmatch
import io
import json
import pathlib
import pickle
import random
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import hypothesis
from hypothesis import strategies as st

_LEVELS = 30  # to which values are changed
_NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes with one to four changes, such as a flipped bit, a cut, or an odd number in them."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        if not out:
            return rng.randbytes(rng.randrange(64))
        # Beginnings, where headers lie, are changed more often.
        at = rng.randrange(min(len(out), rng.choice((32, 256, 4096, 1 << 30))))
        size = rng.choice((1, 2, 4, 16, 64, 1024))
        kind = rng.randrange(9)
        if kind <= 2:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 3:
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x22, 0x5B, 0x7B))
        elif kind == 4:
            del out[at : at + size]
        elif kind == 5:
            out[at:at] = out[at : at + size] * rng.choice((1, 1, 100))
        elif kind == 6:
            form = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
            width = struct.calcsize(form)
            value = rng.choice(_NUMBERS) & (256**width - 1)
            out[at : at + width] = struct.pack(form, value)
        elif kind == 7:
            out[at : at + size] = rng.randbytes(size)
        else:
            del out[at:]
    return bytes(out)


def bytes_of(seeds: Callable[[], list[bytes]]) -> Callable[[random.Random, int], Iterable[bytes]]:
    """Inputs that are damaged ones of a few whole ones."""

    def inputs(rng: random.Random, count: int) -> Iterable[bytes]:
        whole = seeds()
        for _ in range(count):
            yield damaged_bytes(rng.choice(whole), rng)

    return inputs


ODD_TEXT = st.one_of(
    st.sampled_from(
        ("", " ", "\0", "\ud800", "../../etc/passwd", "/etc/passwd", "a/../b", ".", "~", "é\u202e",
         "NaN", "1e999", "-1", "0", "null", "<loc0000>", "<image>", "a" * 5000, "9" * 5000,
         "(" * 300, "\n", "file:///etc/passwd", "😀" * 300)
    ),
    st.text(max_size=8),
)  # fmt: skip
ODD_NUMBERS = st.one_of(
    st.sampled_from(
        (0, -1, 1, 2, 3, 2**31, -(2**31), 2**63, 2**64, 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308,
         float("nan"), float("inf"), float("-inf"))
    ),
    st.integers(-300, 3000),
    st.floats(),
)  # fmt: skip


def _deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


ODD_VALUES = st.one_of(
    st.sampled_from((None, True, False, [], {}, [[]], [{}], [None], {"": None}, [[], []])),
    ODD_NUMBERS,
    ODD_TEXT,
    st.lists(ODD_NUMBERS, max_size=8),
    st.lists(st.lists(ODD_NUMBERS, max_size=8), max_size=3),
    st.dictionaries(ODD_TEXT, ODD_NUMBERS, max_size=3),
    st.sampled_from((100, 900)).map(_deep),
)


def _paths(value: Any, path: tuple = ()) -> list[tuple]:
    found = [path] if path else []
    if len(path) > _LEVELS:
        return found
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, part in inner:
        found += _paths(part, (*path, key))
    return found


def copied(value: Any, level: int = 0) -> Any:
    """A copy of a value of JSON, to some depth."""
    if level > _LEVELS:
        return value
    if isinstance(value, dict):
        return {key: copied(part, level + 1) for key, part in value.items()}
    return [copied(part, level + 1) for part in value] if isinstance(value, list) else value


def _damaged(value: Any, choose: Callable[[Sequence[Any]], Any], odd: Callable[[str], Any]) -> Any:
    """A value of JSON with one to three parts replaced, removed, repeated, renamed or exchanged."""
    value = copied(value)
    for _ in range(choose((1, 1, 1, 2, 3))):
        paths = _paths(value)
        if not paths:
            return copied(odd("value"))
        *above, key = choose(paths)
        parent = value
        for step in above:
            parent = parent[step]
        kind = choose(range(10))
        if kind <= 5:
            parent[key] = copied(odd("value"))
        elif kind == 6:
            del parent[key]
        elif kind == 7 and isinstance(parent, dict):
            parent[odd("text")] = parent.pop(key)
        elif kind == 7:
            parent.insert(key, copied(parent[key]))
        elif kind == 8:
            parent[key] = choose(([copied(parent[key])], {"a": parent[key]}))
        else:
            part = value
            for step in choose(paths):
                part = part[step]
            parent[key] = copied(part)
    return value


@st.composite
def damaged_values(draw: Any, value: Any) -> Any:
    """A damaged value of JSON, as a strategy."""
    odd = {"value": ODD_VALUES, "text": ODD_TEXT}
    return _damaged(value, lambda given: draw(st.sampled_from(given)), lambda what: draw(odd[what]))


class Damage:
    """Damages files by what they are, with odd values that Hypothesis gives once."""

    def __init__(self, rng: random.Random) -> None:
        """Draws the odd values."""
        self._rng = rng
        self._odd = {
            "value": collected(ODD_VALUES, rng, 150),
            "text": collected(ODD_TEXT, rng, 80),
        }

    def value(self, value: Any) -> Any:
        """A damaged value of JSON."""
        return _damaged(value, self._rng.choice, lambda what: self._rng.choice(self._odd[what]))

    def folder(self, files: dict[str, bytes], most: int = 2) -> dict[str, bytes]:
        """Files of which some are damaged, and now and then one is missing."""
        changed = dict(files)
        for name in self._rng.sample(sorted(files), min(len(files), self._rng.randint(1, most))):
            if self._rng.random() < 0.04:
                del changed[name]
            else:
                changed[name] = self.file(name, files[name])
        return changed

    def file(self, name: str, data: bytes) -> bytes:
        """A damaged file: its bytes, its values, or members of an archive."""
        if self._rng.random() < 0.25:
            return damaged_bytes(data, self._rng)
        suffix = name.rpartition(".")[2].lower()
        with contextlib.suppress(ValueError, LookupError, RecursionError):
            if suffix == "json":
                return as_json(self.value(json.loads(data)))
            if suffix in ("jsonl", "ndjson"):
                return self._lines(data)
            if suffix in ("zip", "npz"):
                return self._zip(data)
            if suffix == "p":
                return pickle.dumps(self.value(pickle.loads(data)), protocol=2)
            if suffix == "safetensors":
                return self._safetensors(data)
            if suffix in ("csv", "txt", "xml", "yaml", "tsv"):
                return self._text(data)
        return damaged_bytes(data, self._rng)

    def _lines(self, data: bytes) -> bytes:
        lines = data.splitlines()
        at = self._rng.randrange(len(lines))
        lines[at] = as_json(self.value(json.loads(lines[at])))
        return b"\n".join(lines)

    def _zip(self, data: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as z:
            members = {name: z.read(name) for name in z.namelist()}
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
            for name, content in self.folder(members).items():
                z.writestr(name, content)
        return out.getvalue()

    def _safetensors(self, data: bytes) -> bytes:
        size = int.from_bytes(data[:8], "little")
        header = as_json(self.value(json.loads(data[8 : 8 + size])))
        return len(header).to_bytes(8, "little") + header + data[8 + size :]

    def _text(self, data: bytes) -> bytes:
        """Numbers, words or quoted texts are replaced."""
        text = data.decode("utf-8", "surrogateescape")
        found = list(re.finditer(r"-?\d+(?:\.\d+)?|[A-Za-z_]+|\"[^\"]*\"", text))
        part = self._rng.choice(found)
        odd = self._odd[self._rng.choice(("text", "value"))]
        new = str(self._rng.choice(odd))[:10_000]
        changed = text[: part.start()] + new + text[part.end() :]
        return changed.encode("utf-8", "surrogatepass" if "\ud800" in new else "surrogateescape")


def read_folder(folder: pathlib.Path) -> dict[str, bytes]:
    """The files below a folder by their relative paths."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write_folder(folder: pathlib.Path, files: dict[str, bytes]) -> None:
    """Writes files by their relative paths."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def folders_of(
    whole: Callable[[], Sequence[dict[str, bytes]]], pattern: str = "*"
) -> Callable[[random.Random, int], Iterable[dict[str, bytes]]]:
    """Inputs that are folders with damaged files, of those whose names fit a pattern."""

    def inputs(rng: random.Random, count: int) -> Iterable[dict[str, bytes]]:
        folders, damage = list(whole()), Damage(rng)
        for _ in range(count):
            files = rng.choice(folders)
            if rng.random() < 0.02:
                yield files  # whole ones are taken
                continue
            chosen = {n: d for n, d in files.items() if fnmatch.fnmatch(n, pattern)}
            changed = damage.folder(chosen)
            yield {**{n: d for n, d in files.items() if n not in chosen}, **changed}

    return inputs


def as_json(value: Any, rng: random.Random | None = None) -> bytes:
    """JSON of a value, which may hold what JSON has no words for."""
    return json.dumps(value, indent=rng.choice((None, 1)) if rng else None).encode()


def collected(strategy: Any, rng: random.Random, count: int) -> list[Any]:
    """Values of a strategy of Hypothesis, the same for the same rng."""
    found: list[Any] = []

    @hypothesis.seed(rng.getrandbits(64))
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def keep(value: Any) -> None:
        found.append(value)

    keep()
    return found


def values_of(strategy: Callable[[], Any]) -> Callable[[random.Random, int], Iterable[Any]]:
    """Inputs that a strategy of Hypothesis gives, which is made when they are asked for."""
    return lambda rng, count: collected(strategy(), rng, count)
