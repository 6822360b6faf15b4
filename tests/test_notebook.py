"""Which checkpoint a notebook uses, in an emulated Colab."""

import json
import os
import pathlib
import shutil
import sys

import pytest
from conftest import TESTS

import pgjax
from pgjax import notebook
from pgjax.checkpoints import hub

EMULATION = TESTS / "colabs" / "emulation"


@pytest.fixture(autouse=True)
def colab(monkeypatch, tmp_path):
    """A machine of Colab with a GPU, whose Secrets the returned function sets."""
    for name in (*notebook.SECRETS, "HUGGING_FACE_HUB_TOKEN", "PGJAX_CHECKPOINTS"):
        monkeypatch.setenv(name, "")  # so that what is set meanwhile is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", os.devnull)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(EMULATION / "bin"), prepend=os.pathsep)
    monkeypatch.syspath_prepend(EMULATION)
    for name in ("google.colab", "google.colab.userdata", "kagglehub"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def secrets(**values):
        monkeypatch.setenv("EMULATED_SECRETS", json.dumps(values))

    secrets()
    return secrets


def test_without_a_token_two_lines_say_how_to_get_one(capsys):
    assert pgjax.checkpoint_or_tiny("mix-224.f16") == "tiny"
    how, where, what = capsys.readouterr().out.splitlines()
    assert "https://huggingface.co/google/paligemma-3b-mix-224" in how
    assert "HF_TOKEN in Colab's Secrets" in where and what.endswith("the tiny checkpoint.")


@pytest.mark.parametrize("name", ["mix-224.f16", "paligemma2-3b-pt-448"])
def test_a_token_in_secrets_is_for_commands_in_cells_too(colab, capsys, name):
    colab(HF_TOKEN="good")
    assert pgjax.checkpoint_or_tiny(name) == name
    assert os.environ["HF_TOKEN"] == "good"
    assert capsys.readouterr().out == f"This notebook goes on with {name}.\n"


@pytest.mark.parametrize("name", ["mix-224.f16", "paligemma2-3b-pt-448"])
def test_kaggle_has_paligemma_and_paligemma_2(colab, name):
    colab(KAGGLE_USERNAME="me", KAGGLE_KEY="good")
    assert pgjax.checkpoint_or_tiny(name) == name


def test_one_key_of_kaggle_is_not_enough(colab):
    colab(KAGGLE_USERNAME="me")
    assert pgjax.checkpoint_or_tiny("mix-224") == "tiny"


def test_without_a_gpu(colab, capsys, monkeypatch):
    colab(HF_TOKEN="good")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(pathlib.Path, "glob", lambda path, pattern: iter(()))
    assert pgjax.checkpoint_or_tiny("mix-224.f16") == "tiny"
    assert "choose Runtime → Change runtime type → T4" in capsys.readouterr().out


def test_a_file_that_is_here_needs_no_token(tmp_path, monkeypatch):
    (tmp_path / "paligemma-3b-mix-224.f16.npz").touch()
    monkeypatch.setenv("PGJAX_CHECKPOINTS", str(tmp_path))
    assert pgjax.checkpoint_or_tiny("mix-224.f16") == "mix-224.f16"


@pytest.mark.parametrize("name", ["tiny", "runs/mine", "user/model", "mine.npz"])
def test_ones_own_are_taken_as_they_are(name, capsys):
    assert pgjax.checkpoint_or_tiny(name) == name
    assert not capsys.readouterr().out


def test_outside_of_colab_the_environment_counts(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", None)
    monkeypatch.setenv("HF_TOKEN", "good")
    assert pgjax.checkpoint_or_tiny("mix-224") == "mix-224"
    assert set(hub.KAGGLE_KEYS) < set(notebook.SECRETS)
