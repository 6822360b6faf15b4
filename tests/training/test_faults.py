"""Faults of whole runs: a used workdir, a full disk, a changed mode, and kills."""

import json
import re
import shutil
import subprocess

import pytest
from conftest import ROOT

from pgjax.training.run_lock import RunLock

pytestmark = pytest.mark.slow

FAULTS = ROOT / "tools" / "faults"


def flags(workdir, case="plain", *more):
    return ("-m", "pgjax.train", f"--config={FAULTS / 'config.py'}:case={case}",
            "--config.total_steps=6", f"--workdir={workdir}", *more)  # fmt: skip


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    command(*flags(workdir))
    return workdir


@pytest.fixture
def workdir(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def content(workdir):
    rows = (workdir / "metrics.jsonl").read_text()
    return rows, {p.name: p.read_bytes() for p in (workdir / "predictions").iterdir()}


def test_a_second_run_in_a_workdir_ends_with_one_sentence(workdir, command):
    lock = RunLock(workdir)
    before = content(workdir)
    done = command(*flags(workdir), check=False)
    lock.release()
    assert done.returncode == 1 and content(workdir) == before
    assert re.fullmatch(r"error: --workdir .* is in use by another run \(.*\); .*\n", done.stderr)


def test_a_finished_run_repeats_nothing(workdir, whole, command):
    done = command(*flags(workdir))
    assert content(workdir) == content(whole)
    assert "[evaluating" not in done.stdout
    assert re.search(r"answers +acc", done.stdout)  # but tells the scores


def test_an_evaluation_that_was_killed_after_its_checkpoint_is_done(workdir, whole, command):
    rows = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    kept = [row for row in rows if "val/" not in row]
    assert len(kept) < len(rows)
    (workdir / "metrics.jsonl").write_text("".join(kept) + '{"step": 6, "val/lo')
    (workdir / "predictions" / "val_6.jsonl").unlink()
    done = command(*flags(workdir))
    assert "[evaluating val at step 6]" in done.stdout and "[evaluating ans" not in done.stdout
    assert content(workdir)[1] == content(whole)[1]
    as_rows = [sorted(map(str, map(json.loads, x[0].splitlines()))) for x in
               (content(workdir), content(whole))]  # fmt: skip
    assert as_rows[0] == as_rows[1]


def test_a_changed_mode_is_told(workdir, command):
    done = command(*flags(workdir, "lora"), check=False)
    assert done.returncode == 1
    (sentence,) = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert "step_6 does not fit this config: " in sentence
    assert "config.adapt was '', is 'lora'" in sentence


@pytest.fixture
def disk(request, tmp_path):
    """A file system in memory, with the options of the parameter."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", request.param, "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    ("disk", "told"),
    [
        ("size=2m", r"(could not be saved|cannot be written) .*No space left"),
        ("ro", r"cannot be written .*Read-only file system"),
    ],
    indirect=["disk"],
)
def test_a_full_or_read_only_disk_ends_a_run_with_one_sentence(disk, told, command):
    """Of a full one, the checkpoint does not fit; TensorBoard's writer once hung for ever."""
    done = command(*flags(disk / "run"), check=False)
    assert done.returncode == 1
    (sentence,) = [x for x in done.stderr.splitlines() if not x.startswith("NOTE: ")]
    assert re.match(f"error: .*{told}", sentence)


def test_kills_and_stops_leave_the_bits_as_they_were(command, tmp_path):
    """The short form of the campaign; its whole table is in docs/reliability.md."""
    done = command(
        FAULTS / "kills.py", "--kills=1", "--terms=1", "--cases=evaluations", "--two=1",
        "--two_terms=0", "--two_cases=plain", "--seed=1", f"--folder={tmp_path}",
        check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
