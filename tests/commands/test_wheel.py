"""What `pip install` of a wheel gives, away from the clone: every command, from an empty folder."""

import json
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from conftest import PHOTOS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program(installed_program):
    return installed_program


@pytest.fixture(scope="module")
def folder(empty_folder):
    return empty_folder


@pytest.fixture(scope="module")
def environment(wheel_environment):
    return wheel_environment


@pytest.fixture(scope="module")
def trained(program, folder):
    program("train", "--config", "quickstart:steps=40", "--workdir", "r")
    return folder / "r"


def test_it_is_the_wheel_that_runs(installed, environment, folder):
    code = "import pgjax, pgjax.transfers.forkme as forkme; print(pgjax.__file__, forkme.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    first, second = map(pathlib.Path, done.stdout.split())
    assert first == installed / "pgjax/__init__.py"
    assert second == installed / "pgjax/transfers/forkme.py"
    assert (installed / "pgjax/py.typed").exists()


def test_train_then_predict_and_evaluate(program, trained):
    scores = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert any("test/acc" in line for line in scores)
    photo = PHOTOS / "coffee.jpg"
    assert program("predict", "--run", "r", "--image", photo, "--prompt", "caption").stdout.strip()
    assert "test" in program("evaluate", "--run", "r", "--max_examples", "100").stdout
    assert (trained / "evaluation/scores.json").exists()
    program("convert", "r", "r.npz")
    program("report", "r", "--cases=1")
    assert "<svg" in (trained.parent / "report.html").read_text()


def test_plan(program):
    said = program(
        "plan", "--config", "forkme:mode=attention", "--device", "t4", "--nolargest_batch"
    )
    assert "usable on t4" in said.stdout and "It fits" in said.stdout


def test_lists(program):
    assert "vqav2" in program("prepare", "--list").stdout
    configs = program("list", "configs").stdout
    assert all(f"\n{name} " in f"\n{configs}" for name in ("quickstart", "forkme", "vqav2"))
    assert "mix-224" in program("list", "checkpoints").stdout


def test_a_copied_config(program, folder):
    program("train", "--copy_config", "forkme", "mine.py")
    program("train", "--copy_config", "forkme", "mine.py", status=1)
    said = program("train", "--config", "mine.py:variant=tiny", "--print_config").stdout
    assert "init: tiny" in said
    lines = (PHOTOS / "photos.jsonl").read_text().splitlines()
    (folder / "mine.jsonl").write_text("\n".join(lines) + "\n")
    shutil.copytree(PHOTOS, folder, dirs_exist_ok=True)
    program(
        "check-data", "--config", "mine.py:variant=tiny", "--config.input.data.fname=mine.jsonl"
    )


def test_demo(installed, environment, folder):
    """It starts, and answers a browser."""
    pytest.importorskip("gradio")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    log = folder / "demo.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [installed / "bin" / "pgjax", "demo", "--checkpoints", "tiny", f"--port={port}"],
            cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            for _ in range(120):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=2) as page:
                        assert page.status == 200
                    return
                except OSError:
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.5)
            raise AssertionError(log.read_text())
        finally:
            process.terminate()
            process.wait(20)
