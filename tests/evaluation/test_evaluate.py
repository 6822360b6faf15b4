"""The command: killed and restarted, on two processes, several checkpoints and benchmarks."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import ROOT

CONFIG = """
from pgjax.recipes import transfer

def get_config(arg=None):
    data = {"name": "scenes", "style": "rich", "wording": "quickstart", "max_shapes": 2,
            "split": "test", "num_examples": 150}
    c = transfer(
        "scenes", variant="tiny", train=data, prompt="", target="", text_len=32, steps=1,
        batch_size=8, lr=1e-3, evals={
            "test": {"kind": "answers", "data": data, "metric": {"name": "by_task"},
                     "max_new_tokens": 12, "published": "vqav2"},
            "loss": {"kind": "perplexity", "data": {**data, "num_examples": 20}},
        },
    )
    c.evals.test.batch_size = 4 if arg == "small" else 8
    c.evals.test.sampler = "temperature(0.5)" if arg == "sampled" else "greedy"
    return c
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "scenes.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def whole(command, config, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    done = command("-m", "pgjax.evaluate", f"--config={config}:sampled", f"--out={out}")
    return out, done.stdout


def predictions(out):
    records = [json.loads(line) for line in (out / "test.jsonl").read_text().splitlines()]
    assert [r["index"] for r in records] == list(range(150))
    return [(r["prediction"], r["scores"]["acc"]) for r in records]


def scores(out):
    return json.loads((out / "scores.json").read_text())


def start(*flags, cache, log):
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "PYTHONPATH": str(ROOT),
    }
    with log.open("w") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "pgjax.evaluate", *flags],
            cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip


def test_what_the_command_says(whole):
    out, said = whole
    assert "test: 150 questions in " in said and "input wait" in said
    measured = scores(out)["test"]["acc"]
    rows = [line.split()[:5] for line in said.splitlines() if line.startswith("tiny ")]
    assert ["tiny", "scenes_sampled", "test", "acc", f"{100 * measured:.2f}"] in rows
    assert f"Predictions and scores: {out}" in said
    assert len(set(predictions(out))) > 10  # answers, not one for all
    what = json.loads((out / "test.json").read_text())
    assert what["about"]["checkpoint"] == "tiny" and what["identity"]["examples"] == 150


@pytest.mark.slow
def test_killed_at_any_moment(whole, command, config, compilation_cache, tmp_path):
    """Four kills, at ever later moments; in one of them a line is cut as well."""
    out, log = tmp_path / "out", tmp_path / "log"
    flags = (f"--config={config}:sampled", f"--out={out}")
    part = out / "test.parts" / "0.jsonl"

    def stored():
        return part.read_bytes().count(b"\n") if part.exists() else 0

    for i, least in enumerate((0, 8, 40, 100)):
        process = start(*flags, cache=compilation_cache, log=log)
        deadline = time.monotonic() + 120
        while not out.exists() or stored() < least:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.0005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert least <= stored() < 150
        if i == 2:
            part.write_bytes(part.read_bytes()[:-20])
    before = stored()
    done = command("-m", "pgjax.evaluate", *flags)
    assert f"test: {before} of 150 predictions are stored already" in done.stdout
    assert (out / "test.jsonl").read_bytes() == (whole[0] / "test.jsonl").read_bytes()
    assert scores(out) == scores(whole[0])


@pytest.mark.slow
def test_two_processes_equal_one(whole, config, compilation_cache, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    out, logs = tmp_path / "out", [tmp_path / f"log{i}" for i in range(2)]
    processes = [
        start(
            f"--config={config}:sampled", f"--out={out}", f"--coordinator=127.0.0.1:{port}",
            "--num_processes=2", f"--process_id={i}", cache=compilation_cache, log=logs[i],
        )
        for i in range(2)
    ]  # fmt: skip
    codes = [process.wait(timeout=240) for process in processes]
    assert codes == [0, 0], logs[0].read_text() + logs[1].read_text()
    assert predictions(out) == predictions(whole[0])
    got, want = scores(out), scores(whole[0])
    assert got["test"] == pytest.approx(want["test"], rel=1e-5)
    assert got["loss"] == pytest.approx(want["loss"], rel=1e-5)
    assert "published" in logs[0].read_text() and "published" not in logs[1].read_text()


@pytest.mark.slow
def test_four_devices_and_another_batch_size(whole, command, config, tmp_path):
    """Answers depend on neither; parameters split over `model` change rounding only."""
    flags = (f"--config={config}:sampled", f"--out={tmp_path}", "--batch_size=5", "--evals=test")
    mesh = ("--config.mesh.data=2", "--config.mesh.model=2")
    command("-m", "pgjax.evaluate", *flags, *mesh, devices=4)
    assert predictions(tmp_path) == predictions(whole[0])


@pytest.mark.slow
def test_one_table_of_many(command, config, tmp_path):
    checkpoints = tmp_path / "copy.npz"
    checkpoints.write_bytes((ROOT / "pgjax" / "checkpoints" / "tiny.npz").read_bytes())
    done = command(
        "-m", "pgjax.evaluate", f"--checkpoints=tiny,{checkpoints}", "--max_examples=16",
        f"--benchmarks={config}:small,{config}", f"--out={tmp_path / 'out'}", "--evals=test",
    )  # fmt: skip
    rows = [r[:4] for r in map(str.split, done.stdout.splitlines()) if r[2:4] == ["test", "acc"]]
    assert rows == [
        ["tiny", "scenes_small", "test", "acc"], [str(checkpoints), "scenes_small", "test", "acc"],
        ["tiny", "scenes", "test", "acc"], [str(checkpoints), "scenes", "test", "acc"],
    ]  # fmt: skip
    found = {
        path.parent.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("test.jsonl")
    }
    assert found.keys() == {
        f"{c}/{b}" for c in ("tiny", "copy") for b in ("scenes", "scenes_small")
    }
    assert found["tiny/scenes"] == found["copy/scenes"]


@pytest.mark.parametrize(
    "flags, message, status",
    [
        ((), "Give one of --run, --config and --benchmarks", 2),
        (("--benchmarks=nowhere.py",), "nowhere.py does not exist", 2),
        (("--config=CONFIG", "--evals=nope"), "--evals has the unknown names ['nope']", 1),
        (("--config=CONFIG", "--config.model.res=32"), "images of (64, 64) pixels", 1),
    ],
)
@pytest.mark.slow
def test_mistakes_are_one_sentence(command, config, tmp_path, flags, message, status):
    flags = [flag.replace("CONFIG", str(config)) for flag in flags]
    done = command("-m", "pgjax.evaluate", *flags, f"--out={tmp_path}", check=False)
    assert done.returncode == status and "Traceback" not in done.stderr
    assert message in done.stderr
