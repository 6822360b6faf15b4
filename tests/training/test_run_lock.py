"""One run in a workdir, whoever else comes, and whatever became of the one before."""

import dataclasses
import json
import os
import subprocess
import sys
import time

import pytest

from pgjax.errors import UserError
from pgjax.training import run_lock
from pgjax.training.run_lock import LOCK_FILE, RunLock, read_holder


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(run_lock, "STALE_SECONDS", 1.0)
    monkeypatch.setattr(run_lock, "BEAT_SECONDS", 0.1)


def hold_elsewhere(workdir, holder, **changes):
    """The lock of a process that this machine cannot see."""
    other = dataclasses.replace(holder, token="other", machine="another boot", **changes)
    (workdir / LOCK_FILE).write_text(json.dumps(dataclasses.asdict(other)))


def test_it_is_there_while_it_is_held(tmp_path):
    lock = RunLock(tmp_path / "run")
    assert read_holder(tmp_path / "run" / LOCK_FILE) == lock.holder
    lock.release()
    assert not (tmp_path / "run").exists()  # nothing came into it
    lock = RunLock(tmp_path)
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_ends_with_one_sentence(tmp_path):
    lock = RunLock(tmp_path)
    start = time.monotonic()
    with pytest.raises(UserError, match=rf"in use by another run \(process {os.getpid()} on .*\);"):
        RunLock(tmp_path)
    assert time.monotonic() - start < 2
    assert read_holder(tmp_path / LOCK_FILE) == lock.holder  # the first is untouched
    lock.release()


HOLD = """
import pathlib, sys, time
from pgjax.training.run_lock import RunLock
RunLock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
time.sleep(100)
"""


def test_the_lock_of_a_killed_run_is_taken_over_at_once(tmp_path, capfd):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"process {process.pid} on"):
        RunLock(tmp_path)
    process.kill()
    time.sleep(0.5)  # dead, and not yet reaped
    RunLock(tmp_path).release()
    process.wait()
    process.stdout.close()
    assert f"the run of process {process.pid} on" in capfd.readouterr().err


def test_a_number_that_another_process_has_now_holds_nothing(tmp_path):
    lock = RunLock(tmp_path)
    holder = dataclasses.replace(lock.holder, started="1")
    (tmp_path / LOCK_FILE).write_text(json.dumps(dataclasses.asdict(holder)))
    RunLock(tmp_path).release()
    lock.release()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"token": 1}', "null"])
def test_a_lock_that_a_kill_cut_holds_nothing(tmp_path, text):
    (tmp_path / LOCK_FILE).write_text(text)
    RunLock(tmp_path).release()


def test_of_another_machine_the_heartbeat_counts(tmp_path, quick, capfd):
    lock = RunLock(tmp_path)
    lock._released.set()
    time.sleep(0.3)
    hold_elsewhere(tmp_path, lock.holder, host="far", pid=7)
    start = time.monotonic()
    taken = RunLock(tmp_path)  # nothing beats
    assert 0.9 < time.monotonic() - start < 3
    assert "locked by process 7 on far; looking" in capfd.readouterr().err
    taken._released.set()
    time.sleep(0.3)

    hold_elsewhere(tmp_path, lock.holder, host="far", pid=8)
    beating = subprocess.Popen(
        ["sh", "-c", f"while sleep 0.1; do touch -c {tmp_path / LOCK_FILE}; done"]
    )
    try:
        with pytest.raises(UserError, match=r"in use by another run \(process 8 on far\)"):
            RunLock(tmp_path)
    finally:
        beating.kill()
        beating.wait()


def test_a_held_lock_beats(tmp_path, quick):
    lock = RunLock(tmp_path)
    before = (tmp_path / LOCK_FILE).stat().st_mtime_ns
    time.sleep(0.5)
    assert (tmp_path / LOCK_FILE).stat().st_mtime_ns > before
    lock.release()


def test_of_many_that_come_at_once_one_gets_it(tmp_path):
    """Over the lock of a dead one, which all of them find."""
    lock = RunLock(tmp_path)
    dead = dataclasses.replace(lock.holder, started="1")
    lock._released.set()
    (tmp_path / LOCK_FILE).write_text(json.dumps(dataclasses.asdict(dead)))
    code = HOLD.replace("time.sleep(100)", "time.sleep(8)")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        for _ in range(5)
    ]  # fmt: skip
    assert sorted(p.communicate()[0] for p in processes) == ["", "", "", "", "held\n"]


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--workdir .*file/run cannot be written"):
        RunLock(tmp_path / "file" / "run")
