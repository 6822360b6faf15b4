"""The notebooks, as they are stored and executed anew in tiny mode."""

import json
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from stored_notebooks import check, text_of

NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))
MOST_BYTES = 1_500_000
PICTURES = {"evaluate": 1, "qlora_448": 4}  # at least; of the others, five
EXPECTED = {"detection", "evaluate", "finetune_paligemma", "inference", "qlora_448"}
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def code_of(path):
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_all_are_there():
    assert {path.stem for path in NOTEBOOKS} == EXPECTED


@each
def test_stored_with_outputs(path):
    text = path.read_text()
    notebook = json.loads(text)
    assert f"pgjax/blob/main/colabs/{path.name}" in "".join(notebook["cells"][0]["source"])
    assert len(text) < MOST_BYTES
    assert not re.search(r"/(root|work|home|tmp|opt)/", text)
    check(notebook, PICTURES.get(path.stem, 5))


@each
def test_begins_with_a_choice(path):
    """Installation, then a checkpoint by name, and the GPU's memory before JAX takes it."""
    install, choice, *_ = code_of(path)
    assert "import pgjax" in install and not re.search(r"import (jax|flax)", install)
    assert re.match(r'CHECKPOINT = "[\w.-]+"  # or ', choice)
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" in choice
    assert "pgjax.checkpoint_or_tiny(CHECKPOINT)" in choice


@each
def test_the_same_words_everywhere(path):
    """The cells that install and choose are the same in all notebooks, names aside."""
    both = []
    for other in (path, NOTEBOOKS[0]):
        both.append([re.sub(r"CHECKPOINT = .*", "", x, count=1) for x in code_of(other)[:2]])
    assert both[0] == both[1]


@pytest.mark.slow
@each
def test_executed(path, tmp_path, compilation_cache):
    env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(compilation_cache)}
    subprocess.run(
        [sys.executable, ROOT / "tools/run_notebooks.py", path, "--out", tmp_path],
        env=env, check=True, capture_output=True, timeout=900,
    )  # fmt: skip
    notebook = json.loads((tmp_path / path.name).read_text())
    check(notebook, PICTURES.get(path.stem, 5))
    said = text_of(notebook)
    assert "Save it as HF_TOKEN in Colab's Secrets" in said
    assert "This notebook goes on with the tiny checkpoint." in said
    LEARNED.get(path.stem, lambda said: None)(said)


def captions(said):
    assert scores("answers: acc", said)[0] == 0 and scores("answers: acc", said)[-1] > 0.5
    halved(said)


def boxes(said):
    found = scores("answers: .*?mAP", said)
    assert found[-1] > found[0] + 0.1
    halved(said)


def counts(said):
    found = scores("answers: acc", said)
    assert found[-1] > found[0] + 0.3
    halved(said)


def intervals(said):
    """Both checkpoints with their intervals, and the test of their difference."""
    for checkpoint in ("tiny", "runs/tuned"):
        assert re.search(rf"^{checkpoint} .* acc +0\.\d+ +0\.\d+–0\.\d+", said, re.MULTILINE)
    assert "A higher" in said


def halved(said):
    losses = scores("val: loss", said)
    assert losses[-1] < 0.5 * losses[0]


def scores(name, said):
    return [float(x) for x in re.findall(rf"{name} ([\d.e-]+)", said)]


LEARNED = {"finetune_paligemma": captions, "detection": boxes, "qlora_448": counts,
           "evaluate": intervals}  # fmt: skip
