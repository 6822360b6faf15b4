"""Worker processes when the main one is interrupted or killed."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

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
