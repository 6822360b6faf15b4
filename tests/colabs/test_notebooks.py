"""The notebooks, as they are stored and executed anew in tiny mode."""

import base64
import io
import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image

NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))
MOST_BYTES = 1_500_000
NAMES = [path.name for path in NOTEBOOKS]


def outputs(notebook):
    for cell in notebook["cells"]:
        yield from cell.get("outputs", ())


def text_of(notebook):
    return "".join("".join(out.get("text", "")) for out in outputs(notebook))


def pictures(notebook):
    for out in outputs(notebook):
        if jpeg := out.get("data", {}).get("image/jpeg"):
            yield Image.open(io.BytesIO(base64.b64decode("".join(jpeg))))


def check(notebook, least):
    assert all(out["output_type"] != "error" for out in outputs(notebook))
    assert "error:" not in text_of(notebook)
    found = list(pictures(notebook))
    assert len(found) >= least
    for picture in found:  # something is drawn
        assert len(set(picture.convert("RGB").reduce(4).getdata())) > 20


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_stored_with_outputs(path):
    text = path.read_text()
    notebook = json.loads(text)
    first, second = notebook["cells"][:2]
    assert f"pgjax/blob/main/colabs/{path.name}" in "".join(first["source"])
    assert 'CHECKPOINT = "tiny"' in "".join(second["source"])
    assert len(text) < MOST_BYTES
    assert not re.search(r"/(root|work|home|tmp)/", text)
    check(notebook, 5)


@pytest.mark.slow
def test_executed(tmp_path):
    subprocess.run(
        [sys.executable, ROOT / "tools/run_notebooks.py", "--out", tmp_path],
        check=True, capture_output=True, timeout=1500,
    )  # fmt: skip
    done = {name: json.loads((tmp_path / name).read_text()) for name in NAMES}
    for notebook in done.values():
        check(notebook, 5)
    for name in ("finetune_paligemma.ipynb", "detection.ipynb"):
        losses = re.findall(r"val: loss ([\d.]+)", text_of(done[name]))
        assert float(losses[-1]) < 0.5 * float(losses[0])
    captions = re.findall(r"answers: acc ([\d.]+)", text_of(done["finetune_paligemma.ipynb"]))
    assert float(captions[0]) == 0 and float(captions[-1]) > 0.7
    scores = re.findall(r"answers: .*?mAP ([\d.e-]+)", text_of(done["detection.ipynb"]))
    assert float(scores[-1]) > float(scores[0]) + 0.1
