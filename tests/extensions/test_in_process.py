"""An optimizer, a sampler, a kind of evaluation, a checkpoint format and variants of one's own."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import PHOTOS

from pgjax import registry
from pgjax.checkpoints.formats import Checkpoint, CheckpointFormat, open_checkpoint
from pgjax.checkpoints.tensors import InMemory
from pgjax.errors import UserError
from pgjax.evaluation.evaluators import Evaluator
from pgjax.evaluation.main_score import MainScore, main_score
from pgjax.inference.load import load
from pgjax.loading.run_directory import read_run
from pgjax.models.variants import GemmaConfig, SiglipConfig
from pgjax.recipes import transfer
from pgjax.registry import (
    CHECKPOINT_FORMATS,
    DECODER_VARIANTS,
    EVALUATORS,
    IMAGE_VARIANTS,
    OPTIMIZERS,
    SAMPLERS,
    Registry,
)
from pgjax.training.loop import train

DATA = {"name": "jsonl", "fname": str(PHOTOS / "photos.jsonl")}


def signed(*, floor: float = 0.0):
    """Steps along the sign of the gradient, where it is above a floor."""
    return optax.stateless(
        lambda updates, _: {n: jnp.sign(u) * (jnp.abs(u) > floor) for n, u in updates.items()}
    )


def constant(token: float = 5):
    """A sampler that takes the same token whatever the logits are."""
    return lambda key, logits: jnp.int32(token)


@dataclasses.dataclass(frozen=True)
class BrightnessKeys(Evaluator.section):
    """The keys of `Brightness`."""

    scale: float = 1.0


class Brightness(Evaluator):
    """The mean of each image, computed on the device."""

    section = BrightnessKeys

    @classmethod
    def main_score(cls, metric):
        """Dark images first."""
        del metric
        return MainScore("brightness", lower_is_better=True)

    def launch(self, params, batch):
        """Means over pixels."""
        images = self._on_device(batch, ("image",))["image"]
        return jax.jit(lambda x: x.mean(axis=(1, 2, 3)))(images)

    def rows(self, batch, out):
        """One score per example."""
        for mean, meta, valid in zip(np.asarray(out), batch["meta"], batch["_mask"], strict=True):
            if valid:
                yield meta, {"brightness": float(mean) * self.spec.scale}


class Folder(CheckpointFormat):
    """A folder with a file for each parameter."""

    @classmethod
    def matches(cls, path):
        """By its index."""
        return (path / "index.json").is_file()

    @classmethod
    def open(cls, path, base=None):
        """Reads everything."""
        index = json.loads((path / "index.json").read_text())
        tensors = {n: InMemory(np.load(path / file)) for n, file in index["tensors"].items()}
        return Checkpoint(path, tensors, index["spec"])


@pytest.fixture(autouse=True)
def own(monkeypatch):
    for one in vars(registry).values():
        if isinstance(one, Registry):
            monkeypatch.setattr(one, "_entries", dict(one))
    OPTIMIZERS.register("signed")(signed)
    SAMPLERS.register("constant")(constant)
    EVALUATORS.register("brightness")(Brightness)
    CHECKPOINT_FORMATS.register("folder")(Folder)
    IMAGE_VARIANTS.register("mine/8")(SiglipConfig(96, 3, 256, 4, patch_size=(8, 8)))
    DECODER_VARIANTS.register("mine")(GemmaConfig(96, 3, 256, 4, 1, 24, vocab_size=1664))


@pytest.fixture
def folder(tmp_path):
    """The packaged checkpoint, written as a `Folder`."""
    tiny = open_checkpoint("tiny")
    path, files = tmp_path / "folder", {}
    path.mkdir()
    for i, (name, tensor) in enumerate(tiny.tensors.items()):
        files[name] = f"{i}.npy"
        np.save(path / files[name], tensor.read().astype(np.float32))
    (path / "index.json").write_text(json.dumps({"spec": tiny.spec, "tensors": files}))
    return path


def test_a_run_of_nothing_but_ones_own(tmp_path, folder):
    answers = {"kind": "answers", "data": DATA, "max_new_tokens": 3, "sampler": "constant(7)"}
    c = transfer(
        "own", variant="tiny", train=DATA, prompt="", target="", text_len=24, steps=1,
        batch_size=4, lr=1e-3,
        evals={"answers": answers, "light": {"kind": "brightness", "data": DATA, "scale": 2.0}},
    )  # fmt: skip
    c.init, c.tokenizer, c.evals.light.batch_size = str(folder), "tiny", 5
    c.model.img, c.model.llm = {"variant": "mine/8"}, {"variant": "mine"}
    c.optimizer.name, c.optimizer.args = "signed", {"floor": 0.0}
    c.optimizer.grad_clip_norm, c.schedule.warmup_percent = 0.0, 0.0
    scores = train(c.to_dict(), tmp_path / "run")
    assert set(scores["light"]) == {"brightness", "examples"}
    stored = (tmp_path / "run" / "predictions" / "answers_1.jsonl").read_text().splitlines()
    texts = {json.loads(line)["prediction"] for line in stored}
    model = load(tmp_path / "run")
    assert texts == {model.context.tokenizer.decode([7, 7, 7])}
    # Every parameter has moved by lr or not at all, which no optimizer of pgjax does.
    before = open_checkpoint(str(folder)).tensors["img/head/kernel"].read()
    after = np.asarray(model.params["img/head/kernel"])
    moved = np.unique(np.abs(after - before).round(5))
    assert np.isclose(moved[moved > 0], 1e-3, rtol=1e-3).all() and moved.any(), moved
    assert read_run(tmp_path / "run").config.optimizer.name == "signed"
    assert main_score("brightness", {}) == MainScore("brightness", True)


def test_a_checkpoint_format(folder, tmp_path):
    ours, tiny = open_checkpoint(str(folder)), open_checkpoint("tiny")
    assert ours.root == str(folder) and ours.spec == json.loads(json.dumps(tiny.spec))
    image, prompt = np.zeros((64, 64, 3), np.uint8), "caption"
    options = {"tokenizer": "tiny"}
    answer = load(folder, **options).generate(image, prompt, max_new_tokens=8)
    assert answer == load("tiny", dtype="float32").generate(image, prompt, max_new_tokens=8)
    (folder / "index.json").unlink()
    with pytest.raises(UserError, match=r"not of a known checkpoint format \(npz, .*, folder\)"):
        open_checkpoint(str(folder))


def test_wrong_arguments_of_ones_own_are_one_sentence(tmp_path):
    from pgjax.decoding.decoders import make_decoder

    with pytest.raises(UserError, match=r"expected constant\(token=5\) with finite numbers"):
        make_decoder("constant(1, 2)")
