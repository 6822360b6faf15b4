"""An evaluator's first hour: from a benchmark's files to a report in a browser.

The commands are those of the guides, run from a wheel in an empty folder; the files are a fixture
in the layout in which the benchmark's owners publish them.
"""

import importlib.util
import json
import shutil
import sys

import pytest
from conftest import TESTS

pytestmark = pytest.mark.slow
BENCHMARK = "countbenchqa"
CONFIG = f"{BENCHMARK}:variant=tiny,mini"


def test_evaluator(steps, installed_program, empty_folder, monkeypatch):
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
        look_at(folder / "report.html")


def table(text):
    """The lines of the table of scores."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("checkpoint "))
    return [line for line in lines[start:] if not line.startswith("[")]


def look_at(page):
    """Opens a page in headless Chromium, where it is installed: no error, pictures are loaded."""
    selenium = pytest.importorskip("selenium.webdriver") if shutil.which("chromedriver") else None
    if selenium is None:
        print("no browser is installed", file=sys.stderr)
        return
    options = selenium.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.add_argument("--window-size=1300,900")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = selenium.ChromeService(shutil.which("chromedriver"))
    with selenium.Chrome(options=options, service=service) as browser:
        browser.get(page.as_uri())
        rows = browser.find_elements("css selector", "table tr")
        assert len(rows) >= 3
        broken = "return [...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        assert browser.execute_script(broken) == 0
        assert not [x for x in browser.get_log("browser") if x["level"] == "SEVERE"]
