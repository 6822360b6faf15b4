"""The tool that compares with reference outputs: it passes here, and notices when it should not."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
from conftest import GOLDEN, ROOT


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    spec = importlib.util.spec_from_file_location(
        "check_golden", ROOT / "tools" / "check_golden.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def only(tool, monkeypatch, *names):
    monkeypatch.setattr(tool, "GROUPS", {name: tool.GROUPS[name] for name in names})


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(GOLDEN, tmp_path / "golden")


def rewrite(path, change):
    with np.load(path) as arrays:
        flat = {name: x.copy() for name, x in arrays.items()}
    change(flat)
    np.savez(path, **flat)


def lines(capsys, word):
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith(word)]


def test_the_metrics_pass(tool, monkeypatch, capsys):
    only(tool, monkeypatch, "metrics")
    assert tool.main([str(GOLDEN)]) == 0
    out = capsys.readouterr().out
    assert out.count("PASS") > 15 and "FAIL" not in out
    assert out.splitlines()[-1] == "0 failed"


@pytest.mark.slow
def test_everything_passes(tool, capsys):
    assert tool.main([str(GOLDEN)]) == 0
    out = capsys.readouterr().out
    assert out.count("PASS") > 50 and "FAIL" not in out
    assert all(f"  {group}" in out for group in tool.GROUPS)


def test_a_perturbed_parameter_fails(tool, monkeypatch, folder, capsys):
    def perturb(flat):
        x = flat["params/img/head/kernel"]
        x += 0.01 * np.abs(x).max()

    rewrite(folder / "params.npz", perturb)
    only(tool, monkeypatch, "forward")
    assert tool.main([str(folder)]) == 1
    image_tokens, text_logits = lines(capsys, "FAIL")  # and nothing that does not depend on it
    assert "image tokens" in image_tokens and "text logits" in text_logits


def test_a_changed_score_fails(tool, monkeypatch, folder, capsys):
    path = folder / "metrics.json"
    golden = json.loads(path.read_text())
    golden["pope"]["metrics"]["acc"] += 1e-6
    golden["coco_caption"]["ptb"][0]["tok"] += " x"
    path.write_text(json.dumps(golden))
    only(tool, monkeypatch, "metrics")
    assert tool.main([str(folder)]) == 1
    pope, words = lines(capsys, "FAIL")
    assert "pope, metrics " in pope and "words of captions" in words


def test_what_is_no_golden_folder(tool, tmp_path, capsys):
    assert tool.main([str(tmp_path)]) == 2
    assert "has no manifest.json" in capsys.readouterr().err
