"""Run directories: today's, those of older versions, and damaged ones."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import PHOTOS

import pgjax
from pgjax.checkpoints.formats import open_checkpoint
from pgjax.checkpoints.resume import Checkpoints
from pgjax.config import parse_config, to_dict
from pgjax.errors import UserError
from pgjax.loading.best_checkpoint import TrackedScore
from pgjax.loading.model_context import open_model_context
from pgjax.loading.parameters import open_run
from pgjax.loading.run_directory import (
    differences,
    is_run,
    read_run,
    write_run,
)

CONFIG = parse_config({"name": "a", "mesh": {"data": 2}})


@pytest.fixture
def folder(tmp_path):
    write_run(tmp_path, CONFIG, ["llm/w", "llm/v"], b"model")
    return tmp_path


def make_old(folder):
    """Rewrites a run directory as versions without a manifest wrote it."""
    trained = json.loads((folder / "run.json").read_text())["trained"]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_trained": trained}))
    (folder / "run.json").unlink()


def test_what_is_written_is_read(folder):
    run = read_run(folder)
    assert run.config == CONFIG and is_run(folder)
    assert run.trained == ("llm/w", "llm/v") and run.tokenizer.read_bytes() == b"model"
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json", "run.json", "tokenizer.model",
    ]  # fmt: skip


def test_an_old_directory_reads_the_same(folder):
    want = read_run(folder)
    make_old(folder)
    assert is_run(folder) and read_run(folder) == want


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", None, "is not a run directory: it has no run.json"),
        ("config.json", None, "is not a run directory: it has no config.json"),
        ("run.json", '{"format": 1,\n"trained"}', r"run\.json:2 is not JSON"),
        ("run.json", "[]", r"run\.json holds a JSON list, expected an object"),
        ("run.json", "\udcff", r"run\.json cannot be read"),
        ("run.json", '{"format": 2, "trained": []}', r"'format' is 2, expected 1"),
        ("run.json", '{"format": 1}', r"run\.json: .*trained"),
        ("run.json", '{"format": 1, "trained": ["a", 1]}', r"run\.json: trained.* 1; expected"),
        ("config.json", '{"_trained": "a"}', r"config\.json: trained is 'a'; expected a list"),
        ("config.json", "", r"config\.json:1 is not JSON"),
    ],
)
def test_damaged_files(folder, file, content, message):
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=message) as caught:
        read_run(folder)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "content",
    ["{}", "3", "null", "[1]", "no json", "[" * 10**5, "\0", '{"model_type": "paligemma"}'],
    ids=range(8),
)
def test_another_folder_is_no_run(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    assert not is_run(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        write_run(tmp_path / "none", CONFIG, [], b"")


def test_differences_name_keys():
    assert differences(CONFIG, CONFIG) == ""
    other = parse_config({"name": "a", "mesh": {"data": 1}, "seed": 1})
    assert differences(CONFIG, other) == "config.mesh.data was 2, is 1; config.seed was 0, is 1"


@pytest.mark.slow
def test_an_old_run_answers_and_goes_on(tmp_path, compilation_cache, monkeypatch, capsys):
    """Against the same run in today's format, bit for bit."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(compilation_cache))
    changes = {
        "input.data.fname": str(PHOTOS / "photos.jsonl"),
        "input.batch_size": 4,
        "checkpoint_every": 1,
        "keep_last": 2,
        "evals": {},
    }
    config = pgjax.read_config("forkme:variant=tiny,steps=2", changes)
    new, old = tmp_path / "new", tmp_path / "old"
    pgjax.finetune(config, new)
    shutil.copytree(new, old)
    make_old(old)

    prompts = [PHOTOS / "coffee.jpg"] * 2, ["caption en", "detect cup"]
    answers = [pgjax.load(run).generate(*prompts, max_new_tokens=8) for run in (new, old)]
    assert answers[0] == answers[1]

    shutil.rmtree(old / "checkpoints" / "step_2")
    pgjax.finetune(config, old)
    assert "[restoring" in capsys.readouterr().out
    assert (old / "run.json").exists() and read_run(old).config == read_run(new).config
    (_, want), (_, got) = open_run(new), open_run(old)
    for name, x in want.items():
        np.testing.assert_array_equal(np.asarray(x), np.asarray(got[name]), err_msg=name)


def test_a_checkpoint_with_values_that_are_not_finite(tmp_path, monkeypatch, capfd):
    """Orbax's, which nothing is wrong with otherwise."""
    context = open_model_context({"model": open_checkpoint("tiny").spec, "tokenizer": "tiny"})
    name = "img/head/bias"
    config = to_dict(context.config) | {"init": "tiny"}
    write_run(tmp_path, parse_config(config), [name], context.tokenizer.model_bytes)
    checkpoints = Checkpoints(tmp_path)
    params = {name: jnp.full(context.shapes[name], jnp.nan).at[1:].set(1)}
    checkpoints.save(3, params, {"step": jnp.int32(3)}, {"position": 0})
    checkpoints.close()
    with pytest.raises(UserError, match="step_3 holds 1 values .* in img/head/bias; set"):
        open_run(tmp_path)
    monkeypatch.setenv("PGJAX_ALLOW_NONFINITE", "1")
    assert np.isnan(np.asarray(open_run(tmp_path)[1][name])).sum() == 1
    assert "holds 1 values" in capfd.readouterr().err


def test_which_checkpoint_is_chosen(tmp_path):
    def choose(wanted, steps=(2, 4, 6)):
        return read_run(tmp_path).choose_step(steps, wanted)

    write_run(tmp_path, CONFIG, ["llm/w"], b"model")
    assert choose(None) == 6 and choose(4) == choose("4") == 4
    for wanted, message in (
        ("best", "keeps no best checkpoint, since its config.keep_best is empty"),
        (3, "step is 3, expected 'best' or one of the checkpoints of"),
        ("-2", r"expected .* \[2, 4, 6\]"),
        ("last", "step is 'last'"),
    ):
        with pytest.raises(UserError, match=message):
            choose(wanted)
    with pytest.raises(UserError, match="holds no complete checkpoint"):
        choose("best", ())

    write_run(tmp_path, CONFIG, ["llm/w"], b"model", TrackedScore("val/loss", True))
    with pytest.raises(UserError, match="has no val/loss of a checkpoint"):
        choose("best")
    rows = [{"step": s, "val/loss": v} for s, v in ((2, 3.0), (4, 2.0), (6, 2.5), (8, 1.0))]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert choose("best") == 4 and choose(None) == 6  # the run was killed before it saved step 8
