"""The converter, from every kind of source to every kind of destination."""

import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import GOLDEN, PHOTOS, ROOT
from hub_server import Hub

from pgjax.checkpoints.base_checkpoint import BaseRecord
from pgjax.checkpoints.formats import open_checkpoint
from pgjax.checkpoints.hf_export import DTYPES
from pgjax.checkpoints.npz import base_of, open_npz, read_npz, write_npz
from pgjax.errors import UserError


@pytest.fixture
def convert(program):
    return functools.partial(program, "convert")


def test_there_and_back(convert, tmp_path):
    convert("tiny", tmp_path / "hf")
    names = {p.name for p in (tmp_path / "hf").iterdir()}
    assert {"config.json", "tokenizer.model", "preprocessor_config.json"} <= names
    convert(tmp_path / "hf", tmp_path / "back.npz")
    want = open_checkpoint("tiny").tensors
    for name, x in read_npz(tmp_path / "back.npz").items():
        assert x.dtype == np.float16 and x.tobytes() == want[name].read().tobytes(), name


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_precisions(convert, tmp_path, dtype):
    convert(GOLDEN / "params.npz", tmp_path / "x.npz", "--dtype", dtype)
    want = read_npz(GOLDEN / "params.npz")
    for name, x in read_npz(tmp_path / "x.npz").items():
        assert x.dtype == dtype
        np.testing.assert_array_equal(x, want[name].astype(x.dtype))


def test_a_missing_tokenizer_is_said(convert, tmp_path):
    said = convert(GOLDEN / "params.bf16.npz", tmp_path / "hf")
    assert not (tmp_path / "hf" / "tokenizer.model").exists() or "NOTE" not in said.err
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["torch_dtype"] == "bfloat16"


def test_mistakes(convert, tmp_path):
    (tmp_path / "there.npz").touch()
    for args, message in (
        (("tiny", tmp_path / "there.npz"), "exists already"),
        (("tiny", tmp_path / "d.npz", "--delta"), "--delta takes a run directory"),
        (("tiny", tmp_path / "x", "--adapter"), "--adapter takes a run directory with LoRA"),
        (("tyny", tmp_path / "x.npz"), "neither a path nor a released name"),
    ):
        assert message in convert(*args, status=1).err
    for args, message in (
        (("tiny", tmp_path / "x.npz", "--push_to_hub", "me/x"), "--push_to_hub uploads a folder"),
        (("tiny",), "expected SOURCE DEST"),
        (("tiny", tmp_path / "x.npz", "--dtype=int8"), "value should be one of"),
    ):
        assert message in convert(*args, status=2).err
    assert [p.name for p in tmp_path.iterdir()] == ["there.npz"]


def test_precisions_are_those_of_the_writer(convert):
    assert f"--dtype={'|'.join(DTYPES)}\n" in convert("--help").out


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    """A short run in which only the decoder's attention trains."""
    workdir = tmp_path_factory.mktemp("convert") / "run"
    command(
        "-m", "pgjax.train", "--config=transfers/forkme.py:variant=tiny,steps=2",
        f"--config.input.data.fname={PHOTOS / 'photos.jsonl'}", "--config.input.batch_size=2",
        "--config.trainable=(('llm/layers/attn/.*', True), ('.*', False))",
        "--config.frozen_dtype=float32", "--config.evals={}", f"--workdir={workdir}",
    )  # fmt: skip
    return workdir


def test_a_delta_goes_on_top_of_its_base(run, convert, tmp_path):
    convert(run, tmp_path / "whole.npz")
    convert(run, tmp_path / "delta.npz", "--delta")
    assert base_of(tmp_path / "delta.npz") == BaseRecord("tiny")
    assert all(name.startswith("llm/layers/attn/") for name in open_npz(tmp_path / "delta.npz"))
    sizes = [(tmp_path / f"{name}.npz").stat().st_size for name in ("delta", "whole")]
    assert sizes[0] < sizes[1] / 5
    whole, base = read_npz(tmp_path / "whole.npz"), open_checkpoint("tiny").tensors
    for name, tensor in open_checkpoint(str(tmp_path / "delta.npz")).tensors.items():
        np.testing.assert_array_equal(tensor.read().astype(np.float32), whole[name])
        moved = not np.array_equal(whole[name], base[name].read().astype(np.float32))
        assert moved == name.startswith("llm/layers/attn/"), name


def test_a_run_answers_the_same_after_export(run, convert, tmp_path):
    import pgjax

    convert(run, tmp_path / "hf")
    image = PHOTOS / "coffee.jpg"
    want = pgjax.load(run).generate(image, "caption en", max_new_tokens=8)
    got = pgjax.load(tmp_path / "hf").generate(image, "caption en", max_new_tokens=8)
    assert got == want
    with pytest.raises(UserError, match="sets res and tokenizer itself"):
        pgjax.load(run, res=96)


def test_a_run_on_top_of_a_given_base(run, convert, tmp_path):
    flat = {name: x.read() for name, x in open_checkpoint("tiny").tensors.items()}
    flat["img/head/bias"] = flat["img/head/bias"] + np.float32(1).astype(
        flat["img/head/bias"].dtype
    )
    write_npz(tmp_path / "base.npz", flat)
    convert(run, tmp_path / "out.npz", "--base", tmp_path / "base.npz")
    got = read_npz(tmp_path / "out.npz")["img/head/bias"]
    np.testing.assert_array_equal(got, flat["img/head/bias"].astype(np.float32))


@pytest.mark.parametrize("dest", ["out.npz", "hf"])
def test_values_beyond_float16_are_counted(convert, tmp_path, dest):
    flat = {
        name: x.read().astype(np.float32) for name, x in open_checkpoint("tiny").tensors.items()
    }
    flat["img/head/bias"][:3] = 1e5, -1e5, 65504.0
    write_npz(tmp_path / "x.npz", flat)
    said = convert(tmp_path / "x.npz", tmp_path / dest, "--dtype=float16").err
    assert "2 values of 1 parameters (img/head/bias) are beyond the range of float16" in said
    assert "float16" not in convert(tmp_path / "x.npz", tmp_path / "b.npz", "--dtype=bfloat16").err


@pytest.fixture
def push(tmp_path):
    """Converts and pushes in a process of its own, against a hub."""

    def run(hub, dest, token):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "PGJAX_"))}
        env |= {
            "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": token, "NO_PROXY": "*",
            "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu",
        }  # fmt: skip
        command = [sys.executable, ROOT / "tools/convert.py", "tiny", dest]  # its former name
        command += ["--push_to_hub", "me/mine"]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)

    return run


def test_push_to_hub(push, tmp_path):
    with Hub({}) as hub:
        done = push(hub, tmp_path / "hf", "good")
        assert done.returncode == 0, done.stderr
    sent = hub.repos["me/mine"]
    kept = {p.name: p.read_bytes() for p in (tmp_path / "hf").iterdir()}
    assert {name: sent[name] for name in kept} == kept


def test_a_refused_push_leaves_the_folder(push, tmp_path):
    with Hub({}) as hub:
        done = push(hub, tmp_path / "hf", "bad")
    assert done.returncode == 1 and not hub.repos
    assert "is written, but not pushed to me/mine" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "hf" / "config.json").exists()
