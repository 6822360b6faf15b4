"""Bases that have moved, been renamed or changed, and checkpoints behind URLs."""

import json
import pathlib
import shutil

import fsspec
import ml_dtypes
import numpy as np
import pytest
from conftest import GOLDEN

from pgjax.checkpoints.base_checkpoint import BaseRecord, checksum, find_base, record_base
from pgjax.checkpoints.finite import count_nonfinite
from pgjax.checkpoints.formats import open_checkpoint
from pgjax.checkpoints.locate import FOLDER_VARIABLE, find_checkpoint
from pgjax.checkpoints.npz import open_npz, write_delta, write_npz
from pgjax.config import parse_config
from pgjax.errors import UserError
from pgjax.loading.model_context import open_model_context
from pgjax.loading.parameters import load_parameters
from pgjax.loading.run_directory import read_run, write_run
from pgjax.loading.storage import storage_dtypes
from pgjax.training.setup import find_init


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project folder with base.npz and a run that was trained in it."""
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    (tmp_path / "project" / "runs" / "mine").mkdir(parents=True)
    shutil.copy(GOLDEN / "params.npz", tmp_path / "project" / "base.npz")
    monkeypatch.chdir(tmp_path / "project" / "runs")
    config = parse_config({"init": "../base.npz"})
    write_run(pathlib.Path("mine"), config, ["llm/w"], b"model")
    return tmp_path


def found(run):
    return pathlib.Path(read_run(run).find_base()).resolve()


def test_a_run_from_another_folder(home, monkeypatch):
    monkeypatch.chdir(home)
    assert found(home / "project/runs/mine") == home / "project/base.npz"


def test_training_goes_on_from_another_folder(home, monkeypatch):
    monkeypatch.chdir(home)
    run, base = home / "project/runs/mine", home / "project/base.npz"
    config = read_run(run).config
    assert pathlib.Path(find_init(config, run)).resolve() == base
    assert find_init(parse_config({"init": "tiny"}), run) == "tiny"  # another is wanted now
    assert find_init(config, home / "new") == config.init
    base.write_bytes((GOLDEN / "vae.npz").read_bytes())
    with pytest.raises(UserError, match=r"base\.npz has other contents than that base"):
        find_init(config, run)


def test_a_project_that_was_moved_as_a_whole(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "project").rename(home / "elsewhere")
    assert found(home / "elsewhere/runs/mine") == home / "elsewhere/base.npz"


def test_a_run_that_was_moved_away_from_its_base(home, monkeypatch):
    monkeypatch.chdir(home)
    shutil.move(home / "project/runs/mine", home / "mine")
    assert found("mine") == home / "project/base.npz"  # where it was when the run began


@pytest.mark.parametrize("name", ["base.npz", "renamed.npz"])
def test_a_base_in_the_folder_of_checkpoints(home, monkeypatch, name):
    monkeypatch.chdir(home)
    (home / "store").mkdir()
    shutil.move(home / "project/base.npz", home / "store" / name)
    (home / "store" / "other.npz").write_bytes((GOLDEN / "params.bf16.npz").read_bytes())
    with pytest.raises(UserError, match=r"mine goes on top of \.\./base\.npz, which is not found"):
        found("project/runs/mine")
    monkeypatch.setenv(FOLDER_VARIABLE, str(home / "store"))
    assert found("project/runs/mine") == home / "store" / name


def test_a_base_with_other_contents_is_not_taken(home, monkeypatch):
    shutil.copy(GOLDEN / "params.bf16.npz", home / "project/base.npz")
    with pytest.raises(UserError, match="base.npz has other contents than that base; give the"):
        found("mine")


def test_going_on_from_elsewhere_keeps_the_record(home, monkeypatch):
    monkeypatch.chdir(home)
    run = home / "project/runs/mine"
    before = read_run(run).base
    write_run(run, read_run(run).config, ["llm/w"], b"model")
    assert read_run(run).base == before and before.path and before.checksum


def test_older_runs_have_no_record(home, monkeypatch):
    run = home / "project/runs/mine"
    manifest = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({k: manifest[k] for k in ("format", "trained")}))
    monkeypatch.chdir(home)
    assert found(run) == home / "project/base.npz"  # relative to the folder that holds the run


def test_names_that_are_no_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "pt-224", "gs://bucket/base.npz", "someone/model", "someone/model@v1"):
        assert record_base(name) == BaseRecord(name)
        assert find_base(BaseRecord(name), tmp_path / "run") == name
    with pytest.raises(UserError, match="gone.npz, which is not found"):
        find_base(BaseRecord("gone.npz"), tmp_path / "run")


def test_checksums(tmp_path):
    whole = checksum(GOLDEN / "params.npz")
    assert whole and whole == checksum(shutil.copy(GOLDEN / "params.npz", tmp_path / "x.npz"))
    assert whole != checksum(GOLDEN / "params.bf16.npz")
    folder = shutil.copytree(GOLDEN / "hf", tmp_path / "hf")
    before = checksum(folder)
    assert before == checksum(GOLDEN / "hf")
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert checksum(folder) != before
    assert checksum(tmp_path / "none") == ""


def test_a_delta_that_was_moved_with_its_base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    shutil.copy(GOLDEN / "params.npz", "a/base.npz")
    changed = {"img/head/bias": np.ones(64, np.float32)}
    write_delta("a/delta.npz", changed, record_base("a/base.npz"))
    (tmp_path / "a").rename(tmp_path / "b")
    got = open_checkpoint("b/delta.npz").tensors
    np.testing.assert_array_equal(got["img/head/bias"].read(), np.ones(64, np.float32))
    assert got.keys() == open_npz(GOLDEN / "params.npz").keys()


def test_a_delta_on_top_of_itself(tmp_path):
    write_delta(tmp_path / "x.npz", {}, BaseRecord(str(tmp_path / "x.npz")))
    with pytest.raises(UserError, match="x.npz, which is not found"):
        open_checkpoint(str(tmp_path / "x.npz"))
    write_delta(tmp_path / "x.npz", {}, BaseRecord(str(tmp_path / "y.npz")))
    write_delta(tmp_path / "y.npz", {}, BaseRecord(str(tmp_path / "x.npz")))
    with pytest.raises(UserError, match="x.npz goes on top of itself"):
        open_checkpoint(str(tmp_path / "x.npz"))


# ---- URLs ----------------------------------------------------------------------------------------


@pytest.fixture
def memory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/bucket", recursive=True)


def test_a_remote_file_is_copied_once(memory, capfd):
    memory.pipe("/bucket/base.npz", (GOLDEN / "params.npz").read_bytes())
    path = find_checkpoint("memory://bucket/base.npz")
    assert path.read_bytes() == (GOLDEN / "params.npz").read_bytes()
    assert "Copying memory://bucket/base.npz" in capfd.readouterr().err
    assert find_checkpoint("memory://bucket/base.npz") == path
    assert "Copying" not in capfd.readouterr().err
    memory.pipe("/bucket/base.npz", (GOLDEN / "params.bf16.npz").read_bytes())  # a new version
    assert find_checkpoint("memory://bucket/base.npz") != path


def test_a_remote_folder(memory):
    for file in (GOLDEN / "hf").iterdir():
        memory.pipe(f"/bucket/hf/{file.name}", file.read_bytes())
    memory.pipe("/bucket/hf/notes.txt", b"left where it is")
    found = open_checkpoint("memory://bucket/hf/")
    assert found.tensors.keys() == open_npz(GOLDEN / "params.npz").keys()
    assert not (found.path / "notes.txt").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://bucket/none.npz", "none.npz does not exist"),
        ("nothing://bucket/x.npz", "nothing://bucket/x.npz cannot be read .*nothing"),
        ("hf://model", "hf://model is not of the form hf://user/model@revision/file"),
        ("hf://a/b/../../x", "is not of the form"),
        ("hf://a b/c", "is not of the form"),
        ("file:///none/none.npz", "does not exist"),
    ],
)
def test_urls_that_cannot_be_read(memory, url, message):
    memory.pipe("/bucket/x", b"")
    with pytest.raises(UserError, match=message) as e:
        find_checkpoint(url)
    assert str(e.value).endswith(".") and "\n" not in str(e.value)


def test_a_missing_package_is_named(monkeypatch):
    def without(*_, **__):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec, "url_to_fs", without)
    with pytest.raises(UserError, match="needs the Python package gcsfs; install it with `pip"):
        find_checkpoint("gs://bucket/base.npz")


# ---- values that are not finite ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_counting(dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 500)).astype(dtype)
    assert count_nonfinite(x) == 0
    for value in (np.nan, -np.nan, np.inf, -np.inf):
        x[rng.integers(0, 300, 5), rng.integers(0, 500, 5)] = value
    x[0, 0] = np.finfo(dtype).max if dtype != "bfloat16" else ml_dtypes.finfo(dtype).max
    assert count_nonfinite(x) == np.sum(~np.isfinite(x.astype(np.float64)))
    assert count_nonfinite(x.T) == count_nonfinite(x)
    assert count_nonfinite(x[:0]) == 0 and count_nonfinite(np.array(np.nan, dtype)) == 1


def test_nonfinite_parameters_are_refused_unless_allowed(tmp_path, monkeypatch, capfd):
    whole = open_checkpoint("tiny")
    flat = {name: x.read() for name, x in whole.tensors.items()}
    flat["llm/layers/mlp/linear"][1, 0, :3] = np.nan
    flat["img/head/bias"][0] = np.inf
    write_npz(tmp_path / "x.npz", flat)
    config = {"model": whole.spec, "tokenizer": "tiny", "init": str(tmp_path / "x.npz")}
    context = open_model_context(config)
    storage = storage_dtypes(context, [])
    for layout in (False, True):
        with pytest.raises(UserError, match="holds 4 values that are NaN or infinite, in img"):
            load_parameters(context, storage, decode_layout=layout)
    monkeypatch.setenv("PGJAX_ALLOW_NONFINITE", "1")
    params = load_parameters(context, storage)
    assert np.isnan(np.asarray(params["llm/layers/mlp/linear"])).sum() == 3
    assert "holds 4 values" in capfd.readouterr().err
