"""A whole run that keeps its best checkpoint and ends early: what it leaves, and what uses it."""

import json
import shutil

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow

CONFIG = ROOT / "tools" / "faults" / "config.py"


def flags(workdir):
    return ("-m", "pgjax.train", f"--config={CONFIG}:case=best", f"--workdir={workdir}")


def rows(workdir):
    return list(map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines()))


def predictions(workdir):
    return {p.name: p.read_bytes() for p in (workdir / "predictions").iterdir()}


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """(run directory, step of the best checkpoint, last step)"""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    said = command(*flags(workdir)).stdout
    losses = {row["step"]: row["val/loss"] for row in rows(workdir) if "val/loss" in row}
    best, last = min(losses, key=losses.get), max(losses)
    assert f"The run ends early at step {last} of 24: val/loss was not better than" in said
    assert f"The best: val/loss {losses[best]:.4g} at step {best};" in said
    assert [k for k in losses if k > best] == [best + 2, best + 4, last] and last < 24
    return workdir, best, last


def test_what_is_left(whole):
    workdir, best, last = whole
    names = {p.name for p in (workdir / "checkpoints").iterdir()}
    assert names == {f"step_{best}", f"step_{last}"}
    assert {f"answers_{best}.jsonl", f"answers_{last}.jsonl"} <= predictions(workdir).keys()
    (row,) = [row for row in rows(workdir) if "best/step" in row]
    assert row["step"] == last and row["best/step"] == best and "best/answers/acc" in row


def test_a_run_that_has_ended_early_repeats_nothing(whole, command, tmp_path):
    workdir, best, last = whole
    copy = shutil.copytree(workdir, tmp_path / "run")
    said = command(*flags(copy)).stdout
    assert f"Going on from step {last} of 24" in said and f"at step {best}" in said
    assert "[evaluating" not in said and "[restoring the best" not in said
    assert rows(copy) == rows(workdir) and predictions(copy) == predictions(workdir)


def test_killed_before_the_best_was_evaluated(whole, command, tmp_path):
    workdir, best, _ = whole
    copy = shutil.copytree(workdir, tmp_path / "run")
    kept = [row for row in rows(copy) if "best/step" not in row]
    (copy / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    said = command(*flags(copy)).stdout
    assert f"[evaluating answers at step {best}]" in said and "[evaluating val" not in said
    assert rows(copy) == rows(workdir) and predictions(copy) == predictions(workdir)


def test_the_best_is_evaluated_as_in_training(whole, command):
    workdir, best, _ = whole
    command("-m", "pgjax.evaluate", f"--run={workdir}", "--step=best")
    scores = json.loads((workdir / "evaluation_best" / "scores.json").read_text())
    (logged,) = [r["val/loss"] for r in rows(workdir) if r["step"] == best and "val/loss" in r]
    assert scores["val"]["loss"] == pytest.approx(logged, rel=1e-6)
