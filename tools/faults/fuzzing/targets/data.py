"""JSONL files, splits, pipelines and boxes as text."""

import base64
import json
import pathlib
import random
import re
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pgjax.data.jsonl import JsonlSource
from pgjax.data.pipeline import Pipeline
from pgjax.data.splits import parse_split
from pgjax.errors import DataError
from pgjax.registry import OPS
from pgjax.text.compose import DropExample
from pgjax.text.locations import clean_label, count_locations, format_boxes, parse_boxes
from pgjax.text.tokenizer import Tokenizer
from tools.faults.fuzzing.children import Target, Wrong
from tools.faults.fuzzing.damage import (
    ODD_TEXT,
    ODD_VALUES,
    as_json,
    collected,
    damaged_bytes,
    damaged_values,
    values_of,
)
from tools.faults.fuzzing.targets.images import encoded

# ---- JSONL ---------------------------------------------------------------------------------------

_INLINE = base64.b64encode(encoded()[5]).decode()
_LINES = [
    {
        "image": "a.jpg",
        "prefix": "detect cat",
        "suffix": "<loc0001><loc0002><loc0003><loc0004> cat",
    },
    {"image": ["a.jpg", "b/c.png"], "suffix": "two", "id": 3},
    {"image_base64": _INLINE, "suffix": "inline", "answers": ["a", "b"], "boxes": [[0, 0, 1, 1.0]]},
    {"image": f"data:image/png;base64,{_INLINE}", "prefix": "é😀", "suffix": ""},
]


def _jsonl(rng: random.Random, count: int) -> Any:
    lines = collected(st.sampled_from(_LINES).flatmap(damaged_values), rng, 3 * count)
    for _ in range(count):
        chosen = [rng.choice((*_LINES, *lines)) for _ in range(rng.randrange(6))]
        data = b"".join(
            as_json(line) + rng.choice((b"\n", b"\n", b"\r\n", b"\n\n")) for line in chosen
        )
        yield damaged_bytes(data, rng) if rng.random() < 0.5 else data


def check_jsonl(data: bytes, folder: pathlib.Path) -> None:
    """Every line is read as `json` reads it, with the bytes of its images."""
    (folder / "b").mkdir()
    (folder / "a.jpg").write_bytes(encoded()[0])
    (folder / "b/c.png").write_bytes(encoded()[5])
    (folder / "x.jsonl").write_bytes(data)
    source = JsonlSource(str(folder / "x.jsonl"))
    lines = data.split(b"\n")
    full = [i for i, line in enumerate(lines, 1) if line.strip()]
    if len(full) != len(source):
        raise Wrong(f"{len(source)} examples of {len(full)} lines that are not blank")
    for i, number in enumerate(full):
        if source.where(i) != f"{folder / 'x.jsonl'}:{number}":
            raise Wrong(f"{source.where(i)}, expected line {number}")
        try:
            example = source[i]
        except DataError:
            continue
        wanted = json.loads(lines[number - 1])
        image = wanted.pop("image", None)
        inline = wanted.pop("image_base64", None)
        got = dict(example)
        images = got.pop("image")
        if repr(got) != repr(wanted):
            raise Wrong(f"{got} of the line {wanted}")
        path = inline is None and isinstance(image, str) and not image.startswith("data:")
        if path and (images != (folder / image).read_bytes() or ".." in image.split("/")):
            raise Wrong(f"other bytes than those of {image}")


# ---- splits --------------------------------------------------------------------------------------

_BOUNDS = st.one_of(
    st.just(""),
    st.integers(-12, 12).map(str),
    st.integers(-120, 120).map("{}%".format),
    st.floats(-5, 120).map("{:.3f}%".format),
    st.sampled_from(("9" * 5000, "1e3", "-", "%", "٣", "0x1", "1_0", "--1")),
)
_PART = st.builds(
    "{}{}".format,
    st.sampled_from(("", "train", "all", "test", "train ", "träin", "\0")),
    st.one_of(st.just(""), st.builds("[{}:{}]".format, _BOUNDS, _BOUNDS), ODD_TEXT),
)
_SPLITS = st.tuples(
    st.one_of(st.lists(_PART, max_size=3).map("+".join), ODD_TEXT), st.sampled_from((0, 1, 5, 10))
)


def check_split(given: tuple[str, int], folder: pathlib.Path) -> None:
    """Slices of whole numbers are Python's, and nothing goes beyond the records."""
    text, length = given
    ranges = parse_split(text, length)
    picked = [i for part in ranges for i in part]
    if not picked or min(picked) < 0 or max(picked) >= length:
        raise Wrong(f"{picked} of {length}")
    if found := re.fullmatch(r"(?:all|train)?\[(-?[0-9]+)?:(-?[0-9]+)?\]", text):
        start, stop = (int(x) if x else None for x in found.groups())
        if picked != list(range(length))[start:stop]:
            raise Wrong(f"{text} of {length} is {picked}")


# ---- pipelines -----------------------------------------------------------------------------------

_LITERAL = st.one_of(
    st.sampled_from(
        ("224", "16", "0", "-1", "1e999", "'area'", "'nearest'", "True", "None", "(8, 8)", "(0, 5)",
         "(1, 200000000)", "'no'", "'image'", "'text'", "''", "f()", "1j", "b'x'", "{}", "[1, [2]]",
         "10**9", "lambda: 0", "'\\0'", "-1e-9", "100", "0.5", "2", "...", "'{x.__class__}'",
         "'%s'", "'" + "a" * 3000 + "'", "(" * 200 + ")" * 200)
    ),
    ODD_VALUES.map(lambda v: ascii(v) if not isinstance(v, int) or abs(v) < 10**300 else "7"),
)  # fmt: skip


@st.composite
def _ops(draw: Any) -> str:
    name = draw(st.sampled_from((*OPS, "decode", "decode", "resize", "nothing", "__import__", "")))
    args = draw(st.lists(_LITERAL, max_size=3))
    names = st.sampled_from(("size", "key", "method", "antialias", "prob", "outkey", "x", "rng"))
    args += [f"{draw(names)}={draw(_LITERAL)}" for _ in range(draw(st.integers(0, 1)))]
    return name if draw(st.booleans()) and not args else f"{name}({', '.join(args)})"


_PIPELINES = st.one_of(
    st.lists(_ops(), max_size=4).map(lambda ops: "|".join(["decode", *ops])),
    st.lists(_ops(), max_size=3).map("|".join),
    ODD_TEXT,
    st.sampled_from(("|".join(["decode"] * 3000), "(" * 100 + "decode" + ")" * 100)),
)
_TOKENIZER: list[Tokenizer] = []


def _tiny() -> Tokenizer:
    if not _TOKENIZER:
        _TOKENIZER.append(Tokenizer.tiny())
    return _TOKENIZER[0]


def check_pipeline(text: str, folder: pathlib.Path) -> None:
    """A pipeline that is taken changes an example, or says of the data what does not fit."""
    pipeline = Pipeline.parse(text, _tiny())
    example = {
        "image": encoded()[0],
        "prefix": "detect cat",
        "suffix": "cat",
        "text": "a b",
        "choices": ["x", "y"],
        "boxes": np.array([[0.1, 0.1, 0.6, 0.6]]),
        "labels": ["cat"],
    }
    try:
        got = pipeline(example, np.random.default_rng(0))
    except (DataError, DropExample):
        return
    if not isinstance(got, dict) or any(not isinstance(key, str) for key in got):
        raise Wrong(f"the example became {got!r:.200}")
    image = got.get("image")
    if isinstance(image, np.ndarray) and image.dtype.kind == "f" and not np.isfinite(image).all():
        raise Wrong("pixels that are not finite")


# ---- boxes ---------------------------------------------------------------------------------------

_PIECES = st.one_of(
    st.integers(0, 1100).map("<loc{:04d}>".format),
    st.lists(st.integers(0, 1023), min_size=4, max_size=4).map(
        lambda v: "".join(map("<loc{:04d}>".format, v))
    ),
    st.lists(st.integers(0, 140), min_size=14, max_size=18).map(
        lambda v: "".join(map("<seg{:03d}>".format, v))
    ),
    st.sampled_from((" ; ", ";", " cat", " ", "\n", "<", ">", "<loc", "<seg001>", "<loc١٢٣٤>", "é",
                     " " * 5000, "<loc0001>" * 3000)),
    ODD_TEXT,
)  # fmt: skip
_TEXTS = st.lists(_PIECES, max_size=9).map("".join)
_WHOLE = re.compile(r"((?:<loc\d{4}>){4}) ([a-z ]*[a-z])")


def check_boxes(text: str, folder: pathlib.Path) -> None:
    """Boxes have an extent and come back from their own text; whole ones are those of `re`."""
    boxes = parse_boxes(text)
    for box in boxes:
        if not (0 <= box.y0 < box.y1 <= 1 and 0 <= box.x0 < box.x1 <= 1):
            raise Wrong(f"{box}")
    if count_locations(text) < 4 * len(boxes):
        raise Wrong(f"{len(boxes)} boxes of {count_locations(text)} locations")
    parts = text.split(" ; ")
    if all(found := [_WHOLE.fullmatch(part) for part in parts]):
        wanted = [[int(n) for n in re.findall(r"\d+", m[1])] for m in found if m]
        wanted = [w for w in wanted if max(w) < 1024 and w[0] < w[2] and w[1] < w[3]]
        got = [[round(v * 1024) for v in box[:4]] for box in parse_boxes(text, mend=False)]
        if got != wanted:
            raise Wrong(f"{got}, expected {wanted}")
    labels = [box.label for box in boxes]
    try:
        codes = [box.codes for box in boxes] if all(box.codes for box in boxes) else None
        again = parse_boxes(format_boxes([box[:4] for box in boxes], labels, codes))
    except DataError:
        return
    if [box[:5] for box in again] != [box[:5] for box in boxes]:
        raise Wrong(f"{again} of {boxes}")


def check_label(value: Any, folder: pathlib.Path) -> None:
    """A cleaned name is read back as it is."""
    name = clean_label(value)
    (box,) = parse_boxes(format_boxes([(0, 0, 1, 1)], [name]))
    if box.label != name or clean_label(name) != name:
        raise Wrong(f"{value!r} became {name!r} and {box.label!r}")


TARGETS = [
    Target("JSONL", _jsonl, check_jsonl, 8),
    Target("splits", values_of(lambda: _SPLITS), check_split, 4),
    Target("pipelines", values_of(lambda: _PIPELINES), check_pipeline, 8),
    Target(
        "boxes as text",
        values_of(lambda: st.lists(_PIECES, max_size=9).map("".join)),
        check_boxes,
        5,
    ),
    Target("names of objects", values_of(lambda: ODD_VALUES), check_label, 2),
]
