"""An evaluator's first hour: from a benchmark's files to a report in a browser.

The commands are those of the guides, run from a wheel in an empty folder; the files are a fixture
in the layout in which the benchmark's owners publish them.
"""

import importlib.util
import json

import pytest
from conftest import TESTS

pytestmark = pytest.mark.slow
BENCHMARK = "countbenchqa"
CONFIG = f"{BENCHMARK}:variant=tiny,mini"


def test_evaluator(steps, installed_program, empty_folder, monkeypatch, request):
    folder = empty_folder
    monkeypatch.syspath_prepend(TESTS / "benchmarks")
    spec = importlib.util.spec_from_file_location("make", TESTS / f"benchmarks/make_{BENCHMARK}.py")
    fixture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fixture)
    expected = fixture.make(folder / "downloads")["test"]

    with steps("pgjax prepare NAME --help"):
        assert "Licence:" in installed_program("prepare", BENCHMARK, "--help").stdout
    with steps("prepare"):
        said = installed_program(
            "prepare", BENCHMARK, "--source=downloads", "--out=data", "--nocheck_counts"
        )
        assert f"test: {len(expected)} examples" in said.stdout
    data = "--config.data_dir=data"
    with steps("check-data"):
        said = installed_program("check-data", f"--config={CONFIG}", data, "--out=checked")
        assert f"{len(expected)} examples" in said.stdout
        assert json.loads((folder / "checked/report.json").read_text())

    with steps("a second checkpoint"):
        installed_program("convert", "tiny", "other.npz", "--dtype=bfloat16")
    with steps("evaluate two checkpoints"):
        said = installed_program(
            "evaluate", f"--config={CONFIG}", data, "--checkpoints=tiny,other.npz"
        )
    assert "95 %" in said.stdout and said.stdout.count(BENCHMARK) >= 2
    scores = sorted((folder / "evaluations").rglob("scores.json"))
    assert len(scores) == 2
    with steps("the same command again: nothing is left to do"):
        again = installed_program(
            "evaluate", f"--config={CONFIG}", data, "--checkpoints=tiny,other.npz"
        )
    assert "stored already" in again.stdout and table(again.stdout) == table(said.stdout)

    one, two = (str(path.parent.relative_to(folder)) for path in scores)
    with steps("compare"):
        said = installed_program("report", one, two, "--compare")
    assert "difference" in said.stdout or "A higher" in said.stdout
    with steps("report"):
        installed_program("report", "evaluations", "--out=report.html")
    with steps("the report in a browser"):
        look_at(folder / "report.html", request.getfixturevalue("browser"))


def table(text):
    """The lines of the table of scores."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("checkpoint "))
    return [line for line in lines[start:] if not line.startswith("[")]


def look_at(page, browser):
    """Opens a page from the disk: no error, every picture is loaded, both checkpoints answer."""
    browser.set_window_size(1300, 900)
    browser.get(page.as_uri())
    assert len(browser.find_elements("css selector", "table tr")) >= 3
    broken = "return [...document.images].filter(i => i.complete && !i.naturalWidth).length"
    assert browser.find_elements("css selector", "img") and browser.execute_script(broken) == 0
    for card in browser.find_elements("css selector", ".card"):
        assert "tiny" in card.text and "other.npz" in card.text
    assert not [x for x in browser.get_log("browser") if x["level"] == "SEVERE"]
