"""Worker processes that are killed, that cannot start, or whose main process ends."""

import errno
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from test_loader import Numbers, noise, train

from pgjax.errors import UserError

SCRIPT = """
import multiprocessing
import signal
import test_loader as t

if __name__ == "__main__":
    # A shell's background jobs, and so what they start, ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    batches = iter(t.train(t.Numbers(10), 5, t.noise, workers=2))
    for _ in range(6):  # both workers are up
        next(batches)
    try:
        print(*(p.pid for p in multiprocessing.active_children()), flush=True)
        while True:
            next(batches)
    except KeyboardInterrupt:
        batches.close()
"""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
@pytest.mark.parametrize("sent", ["interrupt", "kill"])
def test_workers_end_when_the_program_is_stopped(sent, tmp_path):
    (tmp_path / "main.py").write_text(SCRIPT)
    (tmp_path / "tmp").mkdir()
    paths = f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests/data'}"
    program = subprocess.Popen(
        [sys.executable, "main.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": paths, "PATH": "", "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    workers = [int(pid) for pid in program.stdout.readline().split()]
    assert len(workers) == 2
    if sent == "interrupt":
        os.killpg(program.pid, signal.SIGINT)  # as a terminal does
        _, error = program.communicate(timeout=60)
        assert program.returncode == 0 and not error, error
    else:
        program.kill()
        program.communicate(timeout=60)
    end = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(alive, workers))
    assert not list((tmp_path / "tmp").iterdir())


LOST = """
import multiprocessing, os, signal
import test_loader as t
from pgjax.errors import UserError

if __name__ == "__main__":
    batches = iter(t.train(t.Numbers(10), 5, t.noise, workers=2))
    next(batches)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    try:
        while True:
            next(batches)
    except UserError as e:
        print(e)
"""


def test_a_killed_worker_is_told_in_one_sentence(tmp_path):
    """As the system does where memory runs out."""
    (tmp_path / "main.py").write_text(LOST)
    paths = f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests/data'}"
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=tmp_path, env={"PYTHONPATH": paths, "PATH": ""},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr
    assert re.fullmatch(r"A worker process was lost \(.*\), as it happens where .*\n", done.stdout)


def test_a_full_dev_shm_is_told_in_one_sentence(monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("multiprocessing.synchronize._multiprocessing.SemLock", full)
    told = (
        r"^Worker processes cannot be started \(No space left on device\); each needs room in /dev"
    )
    with pytest.raises(UserError, match=told):
        next(iter(train(Numbers(10), 5, noise, workers=2)))
