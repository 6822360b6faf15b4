"""One device, four devices with fsdp, and two processes of two devices train alike."""

import json
import os
import socket
import subprocess
import sys

import pytest
from conftest import PHOTOS, ROOT

pytestmark = pytest.mark.slow

FLAGS = (
    "-m",
    "pgjax.train",
    "--config=transfers/forkme.py:variant=tiny,steps=6",
    f"--config.input.data.fname={PHOTOS / 'photos.jsonl'}",
    "--config.input.batch_size=8",
    "--config.log_every=1",
    "--config.evals.val.batch_size=4",
    "--config.evals.answers.batch_size=4",
    "--config.evals.answers.max_new_tokens=8",
)


def results(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    scores = [row[k] for row in rows for k in ("val/loss", "val/examples") if k in row]
    answers = (workdir / "predictions" / "answers_6.jsonl").read_text()
    return losses, scores, answers


@pytest.fixture(scope="module")
def single(command, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("single") / "run"
    command(*FLAGS, f"--workdir={workdir}")
    return results(workdir)


def same(got, want):
    assert got[0] == pytest.approx(want[0], rel=1e-5)
    assert len(want[0]) == 6 and len(set(want[0])) == 6
    assert got[1] == pytest.approx(want[1], rel=1e-5)
    assert got[2] == want[2]


@pytest.mark.parametrize("mesh", [(), ("--config.mesh.data=2", "--config.mesh.model=2")])
def test_four_devices(single, command, tmp_path, mesh):
    strategy = '--config.sharding=((".*", "fsdp+tensor"),)' if mesh else "--config.log_every=1"
    command(*FLAGS, *mesh, strategy, f"--workdir={tmp_path / 'run'}", devices=4)
    same(results(tmp_path / "run"), single)


def test_two_processes_of_two_devices(single, compilation_cache, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(compilation_cache),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": str(ROOT),
    }
    processes = [
        subprocess.Popen(
            [
                sys.executable, *FLAGS, f"--workdir={tmp_path / 'run'}",
                f"--coordinator=127.0.0.1:{port}", "--num_processes=2", f"--process_id={i}",
            ],
            cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    outputs = [p.communicate(timeout=300)[0] for p in processes]
    assert [p.returncode for p in processes] == [0, 0], "\n".join(outputs)
    same(results(tmp_path / "run"), single)
    assert "step 6/6" in outputs[0] and "step 6/6" not in outputs[1]  # one of them speaks
