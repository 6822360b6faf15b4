"""Folders that transformers 4.41 to 5.23 have saved: the same logits as that transformers'.

`make_hf_folders.py` has made the folders, with the logits of the version that saved them.
"""

import gzip
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GOLDEN, TESTS

from pgjax import trees
from pgjax.checkpoints.formats import open_checkpoint
from pgjax.errors import UserError
from pgjax.models.paligemma import make_model
from pgjax.text.tokenizer import Tokenizer

FOLDERS = TESTS / "hf_folders"
SAVED = sorted(path.parent for path in FOLDERS.glob("*/*/reference.npz"))
# transformers 4.52 to 4.57 leave out the cap of PaliGemma 2's logits, which the versions before and
# after apply, as the released code does.
WITHOUT_FINAL_CAP = ("4.57",)
VERSIONS = sorted(path.name for path in FOLDERS.iterdir())


def last_logits(folder):
    """The logits after the prompt of `reference.npz`."""
    checkpoint = open_checkpoint(str(folder))
    arrays = {k: jnp.asarray(x.read().astype(np.float32)) for k, x in checkpoint.tensors.items()}
    model, reference = make_model(checkpoint.spec), np.load(folder / "reference.npz")
    text = jnp.asarray(reference["text"])
    variables = {"params": trees.unflatten(arrays)}
    hidden = model.apply(variables, jnp.asarray(reference["image"]), text, jnp.zeros_like(text))
    got = model.apply(variables, hidden[:, -1], method="logits")
    want, cap = reference["logits"], checkpoint.spec["llm"].get("final_softcap")
    if cap and folder.parent.name in WITHOUT_FINAL_CAP:
        want = cap * np.tanh(want / cap)
    return np.asarray(got)[0], want


def test_every_version_kind_and_dtype_is_there():
    assert VERSIONS == ["4.41", "4.47", "4.51", "4.57", "5.23"]
    kinds = {(path.parent.name, path.name) for path in SAVED}
    every = {f"{k}-{d}" for k in ("gemma", "gemma2") for d in ("float32", "bfloat16")}
    older = {("4.41", f"gemma2-{d}") for d in ("float32", "bfloat16")}  # before PaliGemma 2
    assert kinds == {(v, k) for v in VERSIONS for k in every} - older
    sharded = {path for path in SAVED if (path / "model.safetensors.index.json").exists()}
    assert sharded and set(SAVED) - sharded


@pytest.mark.parametrize("folder", SAVED, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_logits_are_those_of_the_transformers_that_saved_it(folder):
    got, want = last_logits(folder)
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(got, want, atol=5e-5)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("with_model", [False, True])
def test_the_tokenizer_is_the_saved_one(tmp_path, version, with_model):
    folder = shutil.copytree(FOLDERS / version / "processor", tmp_path / "hf")
    for path in folder.glob("*.gz"):
        (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    if with_model:
        shutil.copy(GOLDEN / "paligemma_tokenizer.model", folder / "tokenizer.model")
    for path in (GOLDEN / "hf").glob("*"):
        shutil.copy(path, folder)
    found = open_checkpoint(str(folder)).tokenizer
    assert found == folder / ("tokenizer.model" if with_model else "tokenizer.json")
    want = Tokenizer.from_file(GOLDEN / "paligemma_tokenizer.model")
    assert Tokenizer.from_file(found).encode("detect a\n<loc0001>") == want.encode(
        "detect a\n<loc0001>"
    )


def test_added_tokens_are_refused(tmp_path):
    """Their rows of the embedding were trained; without them the model is another one."""
    folder = shutil.copytree(GOLDEN / "hf", tmp_path / "hf")
    shutil.copy(GOLDEN / "paligemma_tokenizer.model", folder / "tokenizer.model")
    (folder / "added_tokens.json").write_text(json.dumps({"<image>": 1664}))
    open_checkpoint(str(folder))
    (folder / "added_tokens.json").write_text(json.dumps({"<image>": 1664, "<s_total>": 1665}))
    with pytest.raises(UserError, match=r"added_tokens.json has 1 tokens after <image> \(<s_total"):
        open_checkpoint(str(folder))
    (folder / "added_tokens.json").unlink()
    listed = {"1664": {"content": "<image>"}, "1665": {"content": "<a>"}, "1666": {"content": "b"}}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": listed}))
    with pytest.raises(UserError, match=r"tokenizer_config.json has 2 tokens after <image> \(<a>"):
        open_checkpoint(str(folder))
