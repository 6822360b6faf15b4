"""A pool whose parent is killed."""

import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT

SCRIPT = """
import concurrent.futures, os, time
from multiprocessing import get_context
from pgjax.data.workers import end_with_parent

if __name__ == "__main__":
    pool = concurrent.futures.ProcessPoolExecutor(1, get_context("spawn"), end_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_worker_ends_with_its_parent(tmp_path):
    (tmp_path / "main.py").write_text(SCRIPT)
    parent = subprocess.Popen(
        [sys.executable, "main.py"], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with parent:
        worker = int(parent.stdout.readline())
        assert os.path.isdir(f"/proc/{worker}")
        parent.kill()
    start = time.monotonic()
    while time.monotonic() - start < 20:
        try:
            with open(f"/proc/{worker}/stat") as f:
                if f.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        time.sleep(0.1)
    os.kill(worker, 9)
    raise AssertionError("it is still there after 20 seconds")
