"""The example in each command's `--help` runs as it stands, offline, in a user's folder.

The folder has what the examples name; the released checkpoints in it are the tiny one.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import PHOTOS, ROOT
from hub_server import Hub

from pgjax.commands.main import COMMANDS, command_class

# Those that need the files of a benchmark, or serve until they are stopped, are only parsed here;
# tests/first_hour, tests/demo and tests/serving run them, with other files and ports of their own.
PARSED = ("evaluate", "prepare", "demo", "serve")
SLOW = ("train", "plan", "convert", "report", "conformance")


@pytest.fixture
def environment(tmp_path, compilation_cache):
    released = tmp_path / "released"
    released.mkdir()
    for name in ("mix-224", "pt-224"):
        tiny = ROOT / "pgjax/checkpoints/tiny.npz"
        shutil.copy(tiny, released / f"paligemma-3b-{name}.npz")
    shutil.copy(ROOT / "pgjax/text/tiny_tokenizer.model", released / "paligemma_tokenizer.model")
    program = tmp_path / "bin" / "pgjax"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pgjax "$@"\n')
    program.chmod(0o755)
    return {
        **os.environ, "PYTHONPATH": str(ROOT), "PGJAX_CHECKPOINTS": str(released),
        "PATH": f"{program.parent}:{os.environ['PATH']}", "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(compilation_cache),
    }  # fmt: skip


@pytest.fixture
def run(tmp_path, environment):
    folder = tmp_path / "folder"
    shutil.copytree(PHOTOS, folder / "photos")
    shutil.copy(PHOTOS / "flower.jpg", folder / "bee.jpg")
    rows = [{"image": f"photos/{p.name}", "suffix": p.stem} for p in PHOTOS.glob("*.jpg")]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 4))

    def run(line, **extra):
        done = subprocess.run(
            shlex.split(line), cwd=folder, env={**environment, **extra}, timeout=3000,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    run.folder = folder
    return run


def test_every_command_has_its_place():
    fast = {"predict", "check-data", "make-jsonl", "list"}
    assert {*PARSED, *SLOW, *fast} == {*COMMANDS} and not {*PARSED} & {*SLOW}


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_parse(name):
    program, command, *args = shlex.split(command_class(name).example)
    assert (program, command) == ("pgjax", name)
    command_class(name)(args).parse()


def test_list(run):
    assert "forkme" in run(command_class("list").example)


def test_check_data(run):
    assert "examples" in run(command_class("check-data").example)
    assert (run.folder / "checked" / "report.json").exists()


def test_predict(run):
    assert run(command_class("predict").example).strip()


def test_make_jsonl(run):
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 100, 100], "iscrowd": 0}
    coco = {
        "images": [{"id": 1, "file_name": "flower.jpg", "width": 224, "height": 224}],
        "annotations": [{**box, "area": 10_000}],
        "categories": [{"id": 1, "name": "flower"}],
    }
    (run.folder / "instances.json").write_text(json.dumps(coco))
    run(command_class("make-jsonl").example)
    assert "flower" in (run.folder / "photos" / "train.jsonl").read_text()


@pytest.mark.slow
def test_plan(run):
    """At full size, so that it takes a minute or more."""
    assert "usable on t4" in run(command_class("plan").example)


@pytest.mark.slow
def test_convert(run, tmp_path):
    """It uploads to a hub on loopback."""
    run("pgjax train --config forkme:variant=tiny,steps=1 --workdir runs/mine --config.evals={} "
        "--config.input.data.fname=mine.jsonl --config.input.batch_size=2")  # fmt: skip
    with Hub({}) as hub:
        run(command_class("convert").example, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0",
            HF_TOKEN="good", HF_HUB_DISABLE_XET="1", HF_HOME=str(tmp_path / "home"),
            NO_PROXY="*")  # fmt: skip
    assert {"README.md", "model.safetensors"} <= hub.repos["me/mine"].keys()


@pytest.mark.slow
def test_report(run):
    run("pgjax evaluate --config quickstart --checkpoint tiny --max_examples 12 "
        "--out evaluations/tiny")  # fmt: skip
    run(command_class("report").example)
    assert (run.folder / "report.html").stat().st_size > 1000


@pytest.mark.slow
def test_train(run):
    """The quickstart, in its full length: five minutes on two cores."""
    assert "answers are in runs/quickstart/answers.png" in run(command_class("train").example)
