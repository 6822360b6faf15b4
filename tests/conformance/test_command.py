"""`pgjax conformance` with adapters of one's own."""

import json

import pytest

MINE = """
from pgjax.conformance.adapter import Adapter


class Mine(Adapter):
    packages = ("numpy", "no-such-package")

    def boxes(self, text, height, width):
        return [("cat", (0, 0, 1, 1))]


class Broken(Adapter):
    def __init__(self, files):
        raise OSError(f"no {files.npz.name}")


class Empty(Adapter):
    pass
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def test_the_report_and_the_status(program, mine, tmp_path):
    out, data = tmp_path / "report.md", tmp_path / "report.json"
    program("conformance", "--adapter", f"{mine}:Mine", "--out", out, "--json", data, status=1)
    text = out.read_text()
    assert text.count("## ") == 2 and f"## {mine}:Mine, paligemma2" in text
    assert "numpy" in text and "no-such-package (version unknown)" in text
    assert "Of 12 checks: 1 differs, 11 not offered." in text
    assert "| tokens | not offered |  |  |  |" in text
    found = {x["check"]: x for x in json.loads(data.read_text())[0]["findings"]}
    assert found["boxes"]["result"] == "differs" and found["boxes"]["tolerance"] == 0.625
    assert found["loss"]["difference"] is None


def test_nothing_wrong(program, mine):
    said = program("conformance", "--adapter", f"{mine}:Empty", "--family", "paligemma")
    assert "Of 12 checks: 12 not offered." in said.out


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ("kreas", "expected one of pgjax, transformers, peft, keras-hub, or path/to/file.py"),
        ("{0}:None", "has no class None that is derived from Adapter."),
        ("{0}x.py:Mine", "cannot be imported (FileNotFoundError: "),
        ("{0}:Broken", "Broken cannot load the tiny model of paligemma (OSError: no model.npz)."),
    ],
)
def test_adapters_that_cannot_be_used(program, mine, adapter, message):
    adapter = adapter.format(mine)
    assert message in program("conformance", "--adapter", adapter, status=1).err
