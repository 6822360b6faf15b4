"""Runs with adapters: what they save, how they go on, and that every way out computes the same."""

import importlib.util
import shutil

import numpy as np
import pytest
from conftest import PHOTOS, ROOT

import pgjax
from pgjax.errors import UserError
from pgjax.inference.logit_difference import logit_difference
from pgjax.loading.parameters import open_run
from pgjax.loading.run_directory import read_run
from pgjax.recipes import adapted
from pgjax.training.loop import train

pytestmark = pytest.mark.slow


def config(mode, **changes):
    spec = importlib.util.spec_from_file_location("forkme", ROOT / "transfers/forkme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    c = module.get_config(f"variant=tiny,steps=4,mode={mode}")
    c.input.data.fname = str(PHOTOS / "photos.jsonl")
    c.input.batch_size, c.grad_accum_steps = 4, 2
    c.evals, c.frozen_dtype = {}, "float32"
    c.checkpoint_every, c.keep_last = 2, 2
    c.model.lora.dropout = 0.1
    c = adapted(c)
    c.optimizer.lr = 3e-3
    return {**c.to_dict(), **changes}


@pytest.fixture(scope="module", params=["lora", "qlora"])
def run(request, tmp_path_factory):
    workdir = tmp_path_factory.mktemp(request.param) / "run"
    train(config(request.param), workdir)
    return workdir


def apart(model, other):
    rng = np.random.default_rng(0)
    text = np.int32([[2, 17, 300, 41, 108]])
    batch = {
        "image": rng.uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32),
        "text": text,
        "mask_ar": np.zeros_like(text),
        "mask_input": np.ones_like(text, bool),
    }
    return logit_difference(model, other, batch)["max"]


def test_every_way_out_computes_the_same(run, program, tmp_path):
    model = pgjax.load(run)
    assert all("_lora_" in name for name in read_run(run).trained)
    program("convert", run, tmp_path / "merged.npz", "--dtype", "float32")
    merged = pgjax.load(tmp_path / "merged.npz", tokenizer="tiny")
    assert apart(model, merged) < 1e-4  # logits of about 20
    assert apart(model, pgjax.load("tiny")) > 1e-2
    program("convert", run, tmp_path / "adapter", "--adapter")
    kind = read_run(run).config.quantize
    answers = pgjax.load(tmp_path / "adapter", quantize=kind or None, dtype="float32")
    # A run in 4 bits has its base quantized from the same float16 file.
    assert apart(model, answers) < 1e-4
    said = program("convert", run, tmp_path / "delta.npz", "--delta", status=1)
    assert "--adapter writes the adapter alone" in said.err
    assert isinstance(pgjax.load(run, quantize="nf4").generate(PHOTOS / "coffee.jpg"), str)
    if kind:
        with pytest.raises(UserError, match="was trained on nf4 weights, not int8"):
            pgjax.load(run, quantize="int8")


def test_goes_on_to_the_same_bits(run, tmp_path):
    workdir = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints" / "step_4")
    train(config(read_run(run).config.adapt), workdir)
    (_, want), (_, got) = open_run(run), open_run(workdir)
    for name in read_run(run).trained:
        np.testing.assert_array_equal(got[name], want[name], err_msg=name)


def test_adapters_are_never_dropped(run, tmp_path):
    with pytest.raises(UserError, match="holds LoRA adapters.*merge them"):
        train(config("projector", init=str(run)), tmp_path / "next")
    with pytest.raises(UserError, match="nothing to quantize"):
        train(config("full", quantize="nf4"), tmp_path / "next")
