"""Any boxes, masks and names, written as JSONL, come back from the tokens that training sees."""

import json
import pathlib
import tempfile

import hypothesis
import numpy as np
import pytest
from conftest import GOLDEN
from hypothesis import strategies as st
from PIL import Image

from pgjax.data.importers.annotated import AnnotatedImage, AnnotatedObject, Report
from pgjax.data.importers.lines import LineWriter
from pgjax.data.jsonl import JsonlSource
from pgjax.data.masks import mask_box
from pgjax.text.compose import training_arrays
from pgjax.text.locations import parse_boxes
from pgjax.text.tokenizer import Tokenizer

BIN = 1 / 1024
SETTINGS = hypothesis.settings(
    derandomize=True, deadline=None, database=None, phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),  # of time, on a busy machine
)  # fmt: skip
SIZES = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
NAMES = st.one_of(
    st.sampled_from(("cat", " wild  dog ", "a;b", "<loc0001>", "x > y", "", "\n", "é😀", "7", "ﬁ")),
    st.text(max_size=12),
    st.integers(),
    st.none(),
)
PIXELS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda size: st.binary(min_size=size[0] * size[1], max_size=size[0] * size[1]).map(
        lambda data: np.frombuffer(data, np.uint8).reshape(size) > 127
    )
)


@st.composite
def boxes(draw, size):
    """A box with an area, also of a single pixel, or much less."""
    edges = []
    for side in size:
        low = draw(st.floats(0, side, exclude_max=True))
        high = draw(st.floats(low, side))
        hypothesis.assume(low / side < high / side)
        edges.append((low / side, high / side))
    (y0, y1), (x0, x1) = edges
    return y0, x0, y1, x1


@st.composite
def with_boxes(draw):
    size = draw(SIZES)
    things = draw(st.lists(st.tuples(NAMES, boxes(size)), max_size=8))
    return AnnotatedImage("a.png", [AnnotatedObject(*thing) for thing in things])


@st.composite
def with_masks(draw):
    first = draw(PIXELS)
    shifts = draw(st.lists(st.integers(1, 99), max_size=4))
    masks = [first, *(np.roll(first, shift) for shift in shifts)]
    hypothesis.assume(first.any())
    things = [AnnotatedObject(draw(NAMES), mask_box(mask), mask) for mask in masks]
    return AnnotatedImage("a.png", things)


@pytest.fixture(scope="module", params=["tiny", "paligemma"])
def tokenizer(request):
    if request.param == "tiny":
        return Tokenizer.tiny()
    return Tokenizer.from_file(GOLDEN / "paligemma_tokenizer.model")


def codes_of(mask):
    """Some 16 codes that depend on all pixels of a mask."""
    rng = np.random.default_rng(np.round(mask * 1000).astype(np.uint32).ravel())
    return rng.integers(0, 128, 16).tolist()


def learned(tokenizer, line):
    """The text that training on a line supervises."""
    arrays = training_arrays(tokenizer, line["prefix"], line["suffix"], 4096)
    ids = arrays["text"][arrays["mask_loss"] > 0].tolist()
    assert ids[-1] == tokenizer.eos_id
    return tokenizer.decode(ids)


def check(tokenizer, image, encode):
    with tempfile.TemporaryDirectory() as name:
        folder, report = pathlib.Path(name), Report()
        Image.new("L", (2, 2)).save(folder / "a.png")
        things = list(image.objects)
        writer = LineWriter(folder, folder, report, encode, annotated="stored")
        lines = list(writer.lines([image]))
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / "x.jsonl").write_text(text, "utf-8")
        source = JsonlSource(str(folder / "x.jsonl")) if lines else []
        found = [source[i] for i in range(len(source))]
    assert sum(len(line["boxes"]) for line in found) + len(report.left_out) == len(things)
    unnamed = [t for t in things if not (isinstance(t.label, str | int) and str(t.label).strip())]
    assert len(report.left_out) >= len(unnamed)
    given = {tuple(thing.box) for thing in things}
    assert given >= {tuple(box) for line in found for box in line["boxes"]}
    for line in found:
        read = parse_boxes(learned(tokenizer, line))
        assert [box.label for box in read] == line["labels"]
        for box, wanted in zip(read, line["boxes"], strict=True):
            # The last location is 1023/1024; what is less than a bin wide is widened to one.
            wanted = np.minimum(wanted, 1 - BIN)
            np.testing.assert_allclose(box[:4], wanted, rtol=0, atol=BIN + 1e-9)
            assert box.y0 < box.y1 and box.x0 < box.x1
    return found


@hypothesis.settings(SETTINGS, max_examples=50)
@hypothesis.given(image=with_boxes())
def test_boxes(tokenizer, image):
    check(tokenizer, image, None)


@hypothesis.settings(SETTINGS, max_examples=25)
@hypothesis.given(image=with_masks())
def test_masks(tokenizer, image):
    made = []

    def encode(mask):
        made.append(codes_of(mask))
        return made[-1]

    found = check(tokenizer, image, encode)
    read = [box.codes for line in found for box in parse_boxes(learned(tokenizer, line))]
    assert sorted(read) == sorted(map(tuple, made))
