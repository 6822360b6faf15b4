import concurrent.futures
import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from conftest import ROOT
from tfds_fixture import png, write_tiny

from pgjax.data.loader import EvalLoader, Part, TrainLoader
from pgjax.data.pipeline import Pipeline
from pgjax.data.sources import make_source
from pgjax.data.tfds_source import TfdsSource
from pgjax.errors import UserError


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    write_tiny(path)
    write_tiny(path, name="mnist", count=3)  # TFDS has code of this name
    return str(path)


def test_example(data_dir):
    source = TfdsSource("tiny", "train", data_dir)
    assert len(source) == 10
    assert source.where(3) == "tfds:tiny/train:3"
    example = source[3]
    boxes = example["objects"].pop("bbox")
    assert np.array_equal(boxes, np.array([[0, 0, 0.5, 1]], np.float32))
    assert example == {
        "image": png(3),
        "caption": "a café, 3",
        "label": 0,
        "score": 1.5,
        "ids": [0, 1, 2],
        "captions": ["first 3", "second"],
        "objects": {"name": ["cup"]},
        "frames": [png(4), png(5)],
        "meta": {"image": png(3), "id": 3, "raw": b"\xff\x00"},
    }
    assert source[0]["ids"] == [] and source[0]["objects"] == {"bbox": [], "name": []}
    assert [source[i]["meta"]["id"] for i in range(10)] == list(range(10))


@pytest.mark.parametrize(
    ("split", "ids"),
    [
        ("train[:50%]", range(5)),
        ("train[-3:]", range(7, 10)),
        ("train[3:6]", range(3, 6)),
        ("train[:2]+train[80%:]", (0, 1, 8, 9)),
        ("test", range(2)),
    ],
)
def test_split(data_dir, split, ids):
    source = make_source({"name": "tfds", "dataset": "tiny", "split": split, "data_dir": data_dir})
    assert [source[i]["meta"]["id"] for i in range(len(source))] == list(ids)


@pytest.mark.parametrize("name", ["tiny:1.0.0", "tiny:1.*.*", "mnist"])
def test_name(data_dir, name):
    assert TfdsSource(name, "train", data_dir)[2]["caption"] == "a café, 2"


@pytest.mark.parametrize(
    ("dataset", "split", "message"),
    [
        ("nope", "train", r"tfds: 'nope' in .* cannot be opened \(.*nope\); expected a data set"),
        ("tiny:2.0.0", "train", "tfds: 'tiny:2.0.0' in .* cannot be opened"),
        ("tiny", "val", r"no split 'val' that can be read \(Unknown split 'val'\); .*'train': 10"),
        ("tiny", "train[:", r"no split 'train\[:' that can be read"),
        ("tiny", "train[:11]", r"no split 'train\[:11\]' that can be read"),
        ("tiny", "empty", "no split 'empty' that can be read"),
    ],
)
def test_messages(data_dir, dataset, split, message):
    with pytest.raises(UserError, match=message) as e:
        TfdsSource(dataset, split, data_dir)
    assert "\n" not in str(e.value)


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match=f"'tiny' in {tmp_path} cannot be opened"):
        TfdsSource("tiny", "train", str(tmp_path))


def test_pickles(data_dir):
    again = pickle.loads(pickle.dumps(TfdsSource("tiny", "train[4:]", data_dir)))
    assert [again[i]["meta"]["id"] for i in range(len(again))] == list(range(4, 10))


def test_threads(data_dir):
    source = TfdsSource("tiny", "train", data_dir)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda i: source[i % 10]["image"], range(500)))
    assert read == [png(i % 10) for i in range(500)]


def test_through_the_loader(data_dir):
    pipeline = Pipeline.parse("decode|resize(8)|keep('image')")
    loader = TrainLoader([Part(TfdsSource("tiny", "train", data_dir), pipeline)], 5, seed=0)
    batches = iter(loader)
    images = np.concatenate([next(batches)["image"] for _ in range(4)])
    assert images.shape == (20, 8, 8, 3)
    assert Counter(images[:, 0, 0, 0].round().astype(int).tolist()) == {i: 2 for i in range(10)}

    pipeline = Pipeline.parse("decode|resize(8)|keep('image', 'caption')")
    loader = EvalLoader(Part(TfdsSource("tiny", "test", data_dir), pipeline), 2)
    (batch,) = loader
    assert batch["meta"] == [{"caption": f"a café, {i}", "index": i} for i in range(2)]


def test_without_tensorflow(data_dir, tmp_path):
    (tmp_path / "data.jsonl").write_text('{"image": "0.png"}\n')
    (tmp_path / "0.png").write_bytes(png(7))
    code = """
import sys
import pgjax.data.loader as L
from pgjax.data.pipeline import Pipeline
from pgjax.data.sources import make_source
assert "tensorflow_datasets" not in sys.modules
pipeline = Pipeline.parse("decode|resize(8)|keep('image')")
for spec in (
    dict(name="jsonl", fname=sys.argv[2] + "/data.jsonl"),
    dict(name="tfds", dataset="tiny", split="train", data_dir=sys.argv[1]),
):
    batch = next(iter(L.TrainLoader([L.Part(make_source(spec), pipeline)], 2, seed=0)))
    assert batch["image"].shape == (2, 8, 8, 3)
found = {"tensorflow", "torch"} & {name.partition(".")[0] for name in sys.modules}
assert not found, found
"""
    done = subprocess.run(
        [sys.executable, "-c", code, data_dir, str(tmp_path)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
