"""Damages bytes, by a seed, and values of JSON, by Hypothesis."""

import json
import random
import struct
from collections.abc import Callable, Iterable
from typing import Any

import hypothesis
from hypothesis import strategies as st

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
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, part in inner:
        found += _paths(part, (*path, key))
    return found


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(part) for key, part in value.items()}
    return [_copy(part) for part in value] if isinstance(value, list) else value


@st.composite
def damaged_values(draw: Any, value: Any) -> Any:
    """A value of JSON with one to three parts replaced, removed, repeated, renamed or exchanged."""
    value = _copy(value)
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        paths = _paths(value)
        if not paths:
            return _copy(draw(ODD_VALUES))
        *above, key = draw(st.sampled_from(paths))
        parent = value
        for step in above:
            parent = parent[step]
        kind = draw(st.integers(0, 9))
        if kind <= 5:
            parent[key] = _copy(draw(ODD_VALUES))
        elif kind == 6:
            del parent[key]
        elif kind == 7 and isinstance(parent, dict):
            parent[draw(ODD_TEXT)] = parent.pop(key)
        elif kind == 7:
            parent.insert(key, _copy(parent[key]))
        elif kind == 8:
            parent[key] = draw(st.sampled_from(([_copy(parent[key])], {"a": parent[key]})))
        else:
            part = value
            for step in draw(st.sampled_from(paths)):
                part = part[step]
            parent[key] = _copy(part)
    return value


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
