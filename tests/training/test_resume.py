"""A run killed at any moment goes on to the same bits, and answers as it did in training."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import PHOTOS, ROOT

pytestmark = pytest.mark.slow

STEPS = 24
FLAGS = (
    "-m",
    "pgjax.train",
    f"--config=transfers/forkme.py:variant=tiny,steps={STEPS}",
    f"--config.input.data.fname={PHOTOS / 'photos.jsonl'}",
    "--config.input.batch_size=4",
    "--config.checkpoint_every=8",
    "--config.log_every=1",
    "--config.evals.val.batch_size=4",
    "--config.evals.answers.batch_size=4",
    "--config.evals.answers.max_new_tokens=12",
)


def kill_when(moment, workdir, cache):
    """Starts the run and kills it -9 at the first sight of `moment(line, workdir)`."""
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "PYTHONPATH": str(ROOT),
    }
    log = workdir.with_suffix(".log")
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, *FLAGS, f"--workdir={workdir}"], cwd=ROOT, env=env,
            stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        deadline = time.monotonic() + 200
        try:
            while not moment(log, workdir):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.0005)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()


def at_step(step):
    return lambda log, _: f"step {step}/{STEPS}" in log.read_text()


def while_saving(_, workdir):
    folder = workdir / "checkpoints"
    return folder.is_dir() and any("tmp" in p.name for p in folder.iterdir())


def saved(workdir):
    """All arrays of the last checkpoint, by path."""
    import orbax.checkpoint as ocp

    folder = workdir / "checkpoints" / f"step_{STEPS}"
    arrays = {}
    for item in ("params", "train"):
        tree = ocp.StandardCheckpointer().restore(folder / item)
        import jax

        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            arrays[item + jax.tree_util.keystr(path)] = np.asarray(leaf)
    return arrays


def losses(workdir):
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    command(*FLAGS, f"--workdir={workdir}")
    return workdir


def test_killed_three_times_is_bit_identical(whole, command, compilation_cache, tmp_path):
    workdir = tmp_path / "run"
    kill_when(at_step(1), workdir, compilation_cache)
    for _ in range(2):  # on a busy machine the save may end before the kill; then the next one
        kill_when(while_saving, workdir, compilation_cache)
        left = [p.name for p in (workdir / "checkpoints").iterdir()]
        if any("tmp" in name for name in left):
            break
    else:
        pytest.fail(f"the kill missed the save: {left}")
    kill_when(at_step(21), workdir, compilation_cache)
    done = command(*FLAGS, f"--workdir={workdir}")
    assert "[restoring" in done.stdout
    assert not any("tmp" in p.name for p in (workdir / "checkpoints").iterdir())

    want, got = saved(whole), saved(workdir)
    assert want.keys() == got.keys()
    assert len(want) > 60  # parameters, both moments, counts, step and key
    for name, array in want.items():
        np.testing.assert_array_equal(array, got[name], err_msg=name)
    assert losses(workdir) == losses(whole)
    assert [step for step, _ in losses(whole)] == list(range(1, STEPS + 1))


def test_predict_answers_as_in_training(whole, command, tmp_path):
    stored = [
        json.loads(line)
        for line in (whole / "predictions" / f"answers_{STEPS}.jsonl").read_text().splitlines()
    ]
    assert stored
    out = tmp_path / "answers.jsonl"
    command(
        "-m", "pgjax.predict", f"--run={whole}", f"--jsonl={PHOTOS / 'photos.jsonl'}",
        f"--out={out}", "--max_new_tokens=12",
    )  # fmt: skip
    answers = {r["id"]: r for r in map(json.loads, out.read_text().splitlines())}
    assert len(answers) == 12
    for record in stored:
        assert answers[record["id"]]["prediction"] == record["prediction"]

    record = answers[7]
    single = command(
        "-m", "pgjax.predict", f"--run={whole}", f"--image={PHOTOS / 'coffee.jpg'}",
        f"--prompt={record['prefix']}", "--max_new_tokens=12",
    )  # fmt: skip
    assert single.stdout.strip() == record["prediction"].strip()

    folder = command("-m", "pgjax.predict", f"--run={whole}", f"--image={PHOTOS}")
    lines = [json.loads(line) for line in folder.stdout.splitlines()]
    assert [r["where"].rsplit("/")[-1] for r in lines] == sorted(
        p.name for p in PHOTOS.glob("*.jpg")
    )
    assert {r["prefix"] for r in lines} == {"caption en"}  # the prompt of training


def test_evaluate_run_gives_the_scores_of_training(whole, command):
    command("-m", "pgjax.evaluate", f"--run={whole}")
    scores = json.loads((whole / "evaluation" / "scores.json").read_text())
    rows = map(json.loads, (whole / "metrics.jsonl").read_text().splitlines())
    last = [row for row in rows if row["step"] == STEPS and "val/loss" in row][-1]
    assert scores["val"]["loss"] == pytest.approx(last["val/loss"], rel=1e-6)
