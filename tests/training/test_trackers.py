"""Services that follow a run: what they are given, and that their failures cost the run nothing.

Where the packages of the services are not installed, a module in their place writes down its calls.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from pgjax.config import RunConfig, parse_config, to_dict
from pgjax.errors import ConfigError, UserError
from pgjax.training.metrics_writer import MetricsWriter
from pgjax.training.trackers import Answers, check_installed

FAKE = """
import json, os, time

def said(*call):
    with open(os.environ["CALLS"], "a") as f:
        f.write(json.dumps(call) + "\\n")
    if os.environ.get("FAULT") == call[0]:
        if os.environ["HOW"] == "hang":
            time.sleep(1000)
        if os.environ["HOW"] == "die":
            os._exit(3)
        raise RuntimeError("no route to the host\\nmore")

class Run:
    def log(self, values, step):
        said("log", step, values)
    def finish(self, exit_code):
        said("finish", exit_code)

def init(**given):
    given["dir"] = str(given["dir"])
    said("init", given)
    return Run()

def Image(path):
    return {"png": os.path.basename(path)}

def Table(columns, data):
    return [columns, *data]

def Settings(**given):
    return given
"""


@pytest.fixture
def workdir(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    config = {**to_dict(RunConfig()), "name": "mine", "seed": 7}
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts the module in the place of wandb; returns a function that reads its calls."""
    folder = tmp_path / "fake"
    folder.mkdir()
    (folder / "wandb.py").write_text(FAKE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    for name in ("WANDB_PROJECT", "WANDB_NAME"):
        monkeypatch.delenv(name, raising=False)
    return lambda: [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]


def answers(name="answers"):
    rows = [("caption en", "a cat", "a cat", "1")]
    return Answers(name, Image.new("RGB", (8, 8)), ("prompt", "answer", "expected", "acc"), rows)


def write(workdir, trackers, start=0, steps=(1, 2), finished=True):
    metrics = MetricsWriter(workdir, start, trackers)
    for step in steps:
        metrics.write(step, {"loss": 1.0 / step, "lr": 0.5})
    metrics.show(steps[-1], answers())
    metrics.write(steps[-1], {"answers/acc": 0.25})
    if not finished:  # then there are 10 seconds left, which a busy machine needs to start it
        wait_for(workdir / "tracking" / f"{trackers[0]}.json", steps[-1])
    metrics.close(finished)


def wait_for(kept, step):
    """Waits until a service has a step."""
    end = time.monotonic() + 120
    while not (kept.exists() and json.loads(kept.read_text())["step"] == step):
        assert time.monotonic() < end, kept
        time.sleep(0.05)


def test_a_run_is_one_run_there_also_when_it_continues(workdir, fake):
    write(workdir, ("wandb",), finished=False)
    (_, given), *calls = fake()
    assert given["config"]["seed"] == 7 and given["name"] == "mine" and given["project"] == "pgjax"
    assert calls == [
        ["log", 1, {"loss": 1.0, "lr": 0.5}],
        ["log", 2, {"loss": 0.5, "lr": 0.5}],
        ["log", 2, {"answers/acc": 0.25}],
        ["log", 2, {
            "answers/answers": {"png": "answers_2.png"},
            "answers/predictions": [
                ["prompt", "answer", "expected", "acc"], ["caption en", "a cat", "a cat", "1"],
            ],
        }],
        ["finish", 1],
    ]  # fmt: skip
    before = len(fake())
    write(workdir, ("wandb",), start=2, steps=(3,))
    again = fake()[before:]
    assert again[0][1]["id"] == given["id"] and again[0][1]["resume"] == "allow"
    steps = [call[1] for call in again if call[0] == "log"]
    assert steps == [2, 2, 2, 3, 3, 3], again  # of step 2, what it may not have had yet
    assert again[-1] == ["finish", 0]
    assert json.loads((workdir / "tracking/wandb.json").read_text())["step"] == 3


@pytest.mark.parametrize(
    ("fault", "how", "said"),
    [
        ("init", "raise", "wandb failed (RuntimeError: no route to the host); the run goes on"),
        ("log", "raise", "wandb failed (RuntimeError: no route to the host); the run goes on"),
        ("log", "die", "wandb does not have all of the run (its process ended with status 3)"),
    ],
)
def test_a_failure_costs_the_run_nothing(workdir, fake, monkeypatch, capfd, fault, how, said):
    monkeypatch.setenv("FAULT", fault)
    monkeypatch.setenv("HOW", how)
    write(workdir, ("tensorboard", "wandb"))
    err = capfd.readouterr().err
    assert said in err and err.count("\n") == 1
    assert len((workdir / "metrics.jsonl").read_text().splitlines()) == 3
    assert list((workdir / "tb").glob("events*"))


@pytest.mark.slow
def test_a_service_that_hangs_is_left_behind(workdir, fake, monkeypatch, capfd):
    monkeypatch.setenv("FAULT", "init")
    monkeypatch.setenv("HOW", "hang")
    MetricsWriter(workdir, 0, ("wandb",)).close(finished=False)  # or the test ends by its limit
    assert "has not taken the whole run within 10 s" in capfd.readouterr().err


KILLED = """
import os, pathlib, signal, sys, time
from pgjax.training.metrics_writer import MetricsWriter
metrics = MetricsWriter(pathlib.Path(sys.argv[1]), 0, ("wandb",))
while not pathlib.Path(sys.argv[1], "tracking/wandb.json").exists():
    time.sleep(0.05)
metrics.write(1, {"loss": 1.0})
print(metrics._trackers[0]._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_run_leaves_no_process(workdir, fake):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(workdir)], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    for _ in range(600):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        raise AssertionError(pid)
    assert fake()[-2:] == [["log", 1, {"loss": 1.0}], ["finish", 1]]


def test_what_is_not_installed_or_unknown_is_said_before_the_run():
    with pytest.raises(UserError, match="'no_tracker', which is not installed: pip install no_tr"):
        check_installed(["tensorboard", "no_tracker"])
    with pytest.raises(ConfigError, match=r"config\.trackers.*'wand'; .*'wandb'"):
        parse_config({"trackers": ("wand",)})


@pytest.mark.slow
def test_weights_and_biases_itself(workdir, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    write(workdir, ("wandb",))
    write(workdir, ("wandb",), start=2, steps=(3,))
    kept = json.loads((workdir / "tracking/wandb.json").read_text())
    files = sorted((workdir / "tracking/wandb").glob(f"offline-run-*/run-{kept['id']}.wandb"))
    assert len(files) == 2 and kept["step"] == 3  # `wandb sync` makes them one run
    assert b"answers/acc" in files[0].read_bytes() and b"loss" in files[1].read_bytes()
    assert list((workdir / "tracking/wandb").glob("offline-run-*/files/media/images/answers/*.png"))


@pytest.mark.slow
def test_mlflow_itself(workdir, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    write(workdir, ("mlflow",), finished=False)
    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    kept = json.loads((workdir / "tracking/mlflow.json").read_text())
    assert client.get_run(kept["id"]).info.status == "KILLED"
    write(workdir, ("mlflow",), start=2, steps=(3,))
    run = client.get_run(kept["id"])
    assert run.info.status == "FINISHED" and run.info.run_name == "mine"
    assert run.data.params["seed"] == "7" and run.data.params["optimizer.lr"] == "1e-05"
    points = {(m.step, m.value) for m in client.get_metric_history(kept["id"], "loss")}
    assert points == {(1, 1.0), (2, 0.5), (3, 1 / 3)}
    names = {file.path for file in client.list_artifacts(kept["id"], "answers")}
    assert names == {f"answers/answers_{n}.{kind}" for n in (2, 3) for kind in ("png", "md")}
