"""A disk that is full while a command writes: one sentence, and nothing half-written is left."""

import json
import os
import re
import resource
import shlex
import subprocess
import sys

import pytest
from conftest import PHOTOS, ROOT, TESTS

from pgjax.errors import UserError
from pgjax.evaluation.store import Store
from pgjax.inference.prediction_file import PredictionFile

REASON = "cannot be written (File too large); what was finished before is whole: when it can be"


@pytest.fixture
def largest_file():
    """Limits files to a number of bytes, which is the full disk that needs no file system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def record(i):
    return {"index": i, "prediction": "x" * 200}


def test_predictions_of_an_evaluation_go_on_when_there_is_room(tmp_path, largest_file):
    store = Store(tmp_path, "val", {})
    for i in range(2):
        store.add(record(i))
    store.flush()
    largest_file(500)
    for i in range(2, 4):
        store.add(record(i))
    with pytest.raises(UserError, match=re.escape(REASON)):
        store.flush()
    store = Store(tmp_path, "val", {})
    assert store.done == {0, 1}  # the third was cut
    largest_file(300)
    with pytest.raises(UserError, match=r"val\.jsonl cannot be written \(File too large\)"):
        store.finish()
    assert not list(tmp_path.glob("*.part"))
    largest_file(resource.RLIM_INFINITY)
    assert [r["index"] for r in Store(tmp_path, "val", {}).finish()] == [0, 1]


def test_answers_of_predict_go_on_when_there_is_room(tmp_path, largest_file):
    out = tmp_path / "out.jsonl"
    file = PredictionFile(out, {}, restart=False)
    file.add(record(0))
    largest_file(300)
    with pytest.raises(UserError, match=re.escape(f"--out {out} {REASON}")):
        file.add(record(1))
    largest_file(resource.RLIM_INFINITY)
    file = PredictionFile(out, {}, restart=False)
    assert file.done == {0}
    file.add(record(1))
    largest_file(300)
    with pytest.raises(UserError, match=re.escape(f"--out {out} {REASON}")):
        file.finish()
    largest_file(resource.RLIM_INFINITY)
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl.part"]
    file = PredictionFile(out, {}, restart=False)
    assert file.done == {0, 1} and file.finish() == 2
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl"]
    assert [json.loads(x)["index"] for x in out.read_text().splitlines()] == [0, 1]


def one_sentence(err, told):
    (sentence,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert re.search(told, sentence) and sentence.endswith("."), sentence
    assert "Traceback" not in err and "Unexpected" not in err


@pytest.mark.parametrize(
    ("dest", "told"),
    [
        ("folder", r"folder could not be written \(.*File too large"),
        ("model.npz", r"model\.npz could not be written \(.*File too large"),
    ],
)
def test_convert(dest, told, program, tmp_path, largest_file):
    largest_file(100_000)
    one_sentence(program("convert", "tiny", tmp_path / dest, status=1).err, told)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["tfds", "jsonl"])
def test_prepare(format, program, tmp_path, largest_file):
    sys.path.append(str(TESTS / "benchmarks"))
    import make_nocaps

    make_nocaps.make(tmp_path / "source")
    args = ["prepare", "nocaps", f"--source={tmp_path / 'source'}", f"--out={tmp_path / 'out'}"]
    args += ["--no-check_counts", f"--format={format}", "--workers=0"]
    largest_file(600)
    one_sentence(program(*args, status=1).err, r"incomplete cannot be written \(File too large")
    largest_file(resource.RLIM_INFINITY)
    program(*args)  # goes on
    assert not list((tmp_path / "out").rglob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "argv",
    [
        ["evaluate", "--config=tools/faults/config.py:case=plain", "--evals=answers"],
        ["predict", f"--jsonl={PHOTOS / 'photos.jsonl'}", "--max_new_tokens=1"],
    ],
)
def test_while_it_answers(argv, tmp_path):
    out = tmp_path / "out"
    line = [sys.executable, "-m", "pgjax", *argv, "--checkpoint=tiny", f"--out={out}"]
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 1; exec {shlex.join(line)}"], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 1
    one_sentence(done.stderr, rf"{out}\S* cannot be written \(File too large\)")
