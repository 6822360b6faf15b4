"""Inputs that the campaign of `tools/faults/fuzz.py` has found to fail, each with its sentence."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import pgjax
from pgjax.commands.config_files import load_config
from pgjax.data.importers.annotated import Import, Report
from pgjax.data.importers.recognize import recognize
from pgjax.decoding.decoders import make_decoder
from pgjax.errors import MOST_SHOWN, DataError, UserError
from pgjax.inference.decoding_options import read_options
from pgjax.loading.export import open_source
from pgjax.metrics import get_metric
from pgjax.text.tokenizer import Tokenizer


def test_long_messages_lose_their_middle():
    said = str(UserError("a" * 10_000 + "b" * 10_000 + "."))
    assert len(said) == 2 * MOST_SHOWN and said.startswith("aaa") and said.endswith("bbb.")
    assert " … " in said and str(UserError("short.")) == "short."


@pytest.mark.parametrize(
    "text", ["temperature(inf)", "temperature(1e-320)", "top_k(1e999)", "beam(1e999)", "beam(nan)",
             "beam(1e9)", "best_of(1e12)", "nucleus(nan)"],
)  # fmt: skip
def test_samplers(text):
    with pytest.raises(UserError, match="^sampler"):
        make_decoder(text)


def test_options_that_are_lists():
    with pytest.raises(UserError, match=r"cache_dtype is \[\]"):
        read_options({"cache_dtype": []})  # pyright: ignore[reportArgumentType]


def test_tokenizer_with_broken_text():
    """Its library reports such pieces in a message that is no text either."""
    whole = Tokenizer.tiny().model_bytes
    at = whole.index("▁the".encode())
    for cut in (whole[:at] + b"\x80" + whole[at + 1 :], whole[:at] + b"\xc4\xff" + whole[at + 2 :]):
        try:
            Tokenizer(cut, name="x.model").encode("the circle")
        except UserError as e:
            assert "x.model" in str(e)


@pytest.fixture
def read(tmp_path):
    Image.new("RGB", (200, 100)).save(tmp_path / "a.jpg")

    def run(name, content):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (tmp_path / name).write_bytes(data)
        report = Report()
        found = recognize(tmp_path / name)
        given = Import(tmp_path / name, tmp_path, False, "train", report)
        return list(found.read(given)), report.left_out

    return run


def test_label_studio_with_points_that_are_a_number(read):
    value = {"points": 7, "polygonlabels": ["cat"]}
    common = {"original_width": 200, "original_height": 100, "type": "polygonlabels"}
    task = {"data": {"image": "a.jpg"}, "annotations": [{"result": [{**common, "value": value}]}]}
    images, left = read("x.json", [task])
    assert [image.objects for image in images] == [[]] and not images[0].complete
    assert left == ["a.jpg, region 1: is not as the format has it (TypeError: 'int' object is not "
                    "iterable)."]  # fmt: skip


def test_yolo_with_a_path_that_is_too_long(read):
    with pytest.raises(UserError, match=r"data.yaml cannot be read as YOLO \(OSError: .*too long"):
        read("data.yaml", f"train: {'x' * 5000}\nnames: [cat]\n".encode())


def test_arrow_with_damaged_offsets(read):
    """pyarrow would read beyond the file."""
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"text": ["first", "second", "third"]})
    out = io.BytesIO()
    with pyarrow.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    offsets = np.array([0, 5, 11, 16], np.int32).tobytes()
    damaged = np.array([0, 5, 2**30, 16], np.int32).tobytes()
    with pytest.raises(UserError, match=r"x.arrow cannot be read"):
        read("x.arrow", out.getvalue().replace(offsets, damaged))


BOX = "<loc0010><loc0020><loc0500><loc0600>"
CODES = "".join(f"<seg{i:03}>" for i in range(16))


@pytest.mark.parametrize(
    ("name", "meta", "message"),
    [
        ("exact_match", {"answers": "yes"}, "'answers' is 'yes', expected a list of texts"),
        ("exact_match", {"answers": ["a", None]}, "expected a list of texts"),
        ("vqa_accuracy", {"answers": 5}, "cannot score the example {'answers': 5}"),
        ("anls", {"suffix": None}, "'suffix' is None, expected text"),
        ("box_iou", {"boxes": []}, "cannot score the example"),
        ("box_iou", {"boxes": [[0, 0, 1]]}, "expected y0, x0, y1, x1 of each"),
        ("all_boxes_iou", {"boxes": [[0, 0, 1, float("nan")]]}, "expected y0, x0, y1, x1 of each"),
        ("by_task", {"task": [], "suffix": "x"}, "cannot score the example"),
        ("segmentation", {"mask": {"size": [10**6, 10**6], "counts": [1]}}, "has 1000000x1000000"),
        ("segmentation", {"mask": {"size": [4, 5], "counts": "~~"}}, "damaged"),
    ],
)
def test_metrics(name, meta, message):
    """Instead of a traceback, or of a score of something else."""
    options = (
        {"draw": lambda codes, box, size: np.ones(size, bool)} if name == "segmentation" else {}
    )
    with pytest.raises(DataError) as raised:
        get_metric(name, **options)(f"{BOX}{CODES} cat", meta)
    assert message in str(raised.value)


@pytest.mark.parametrize("name", ["a" * 5000, "~nobody/x", "~é", "\0", "\ud800", "(" * 300])
@pytest.mark.parametrize("given", [pgjax.load, load_config, lambda name: open_source(name, None)])
def test_names_that_cannot_be_paths(given, name):
    with pytest.raises(UserError, match="neither a path|does not exist|not a config|no path"):
        given(name)


@pytest.mark.parametrize("key", ["tokenizer", "base"])
@pytest.mark.parametrize("name", ["a" * 5000, "~nobody/x", "\0", "\ud800"])
def test_other_names_that_cannot_be_paths(key, name):
    with pytest.raises(UserError):
        pgjax.load("tiny", **{key: name})
