"""Processes that are lost, late, silent, wrong or in disagreement, and what the others say."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow

PEER = pathlib.Path(__file__).with_name("peer.py")
NATIVE = ("*** Check failure", "Terminating process", "coordination_service_agent")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Peers:
    def __init__(self, what, count=2, only=None, ports=None, seconds=()):
        port = free_port()
        env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
        self.processes = {
            k: subprocess.Popen(
                [
                    sys.executable, str(PEER), str(k), str(count),
                    f"127.0.0.1:{(ports or {}).get(k, port)}", what, *map(str, seconds),
                ],
                env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for k in (range(count) if only is None else only)
        }  # fmt: skip

    def end(self, k, timeout=120):
        """(status, what it printed, its errors and notes) of a process."""
        process = self.processes[k]
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        assert not any(text in err for text in NATIVE), err
        said = [x for x in err.splitlines() if x.startswith(("error: ", "NOTE: "))]
        out = "".join(line for line in out.splitlines(keepends=True) if "[Gloo]" not in line)
        return process.returncode, out, said

    def kill(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.communicate()


def test_all_come_to_the_end():
    peers = Peers("nothing")
    assert [peers.end(k)[:2] for k in range(2)] == [(0, "done\n")] * 2


def test_a_wish_is_heeded_at_one_step_by_all():
    peers = Peers("wish", count=3)
    found = {peers.end(k)[1] for k in range(3)}
    assert len(found) == 1
    assert 10 <= int(re.fullmatch(r"stop at (\d+)\ndone\n", found.pop())[1]) < 59


def test_an_error_of_one_ends_all_with_its_sentence():
    peers = Peers("error", count=3)
    told = "error: Process 1 of 3 ended: A record is bad."
    assert peers.end(1)[::2] == (1, ["error: A record is bad."])
    assert peers.end(0)[::2] == (1, [told])
    assert peers.end(2)[::2] == (1, [told])


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_is_noticed_within_a_minute(victim):
    peers = Peers("nothing")
    time.sleep(10)
    peers.processes[victim].kill()
    start = time.monotonic()
    status, _, said = peers.end(1 - victim, timeout=60)
    assert time.monotonic() - start < 60
    if status == 0:  # a quick machine was at the end before
        pytest.skip("the processes ended before the kill")
    assert status == 75
    (sentence,) = said
    assert re.match(rf"error: Process {victim} of 2 .*was lost \(.*, last seen at: s", sentence)
    assert "start all of them again with the same command to go on." in sentence
    peers.kill()


def test_a_process_that_stands_still_is_noticed_within_a_minute():
    peers = Peers("silence")
    start = time.monotonic()
    status, _, said = peers.end(0, timeout=90)
    assert status == 75 and time.monotonic() - start < 80
    told = r"error: Process 1 of 2 was lost \(no sign of life for 4\d s, last seen at: step \d+\);"
    assert re.match(told, said[0])
    peers.kill()


def test_a_process_that_never_comes_is_waited_for_aloud_and_not_for_ever():
    peers = Peers("nothing", only=[0], seconds=[20])
    status, _, said = peers.end(0, timeout=60)
    assert status == 1
    told = r"NOTE: waiting for process 1 of 2 at 127\.0\.0\.1:\d+ \(15 s of 20\)\."
    assert re.match(told, said[0])
    assert re.match(r"error: Waited 2\d s for process 1 of 2 at 127", said[-1]) and len(said) == 2


def test_a_wrong_port_is_told():
    peers = Peers("nothing", only=[1], seconds=[17])
    status, _, said = peers.end(1, timeout=60)
    assert status == 1
    told = r"NOTE: waiting for process 0 of 2 at 127\.0\.0\.1:\d+ \(15 s of 17\)\."
    assert re.match(told, said[0])
    assert re.match(r"error: Waited 1\d s for process 0 of 2 at 127", said[-1])


def test_what_differs_is_told_by_all():
    peers = Peers("differ")
    differ = "config.lr is 0.1 in process 0 and 1.1 in process 1"
    told = f"error: The processes of this run differ: {differ}."
    assert [peers.end(k)[::2] for k in range(2)] == [(1, [told])] * 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("host", 2, 0), "--coordinator is 'host', expected HOST:PORT."),
        (("host:0", 2, 0), "--coordinator is 'host:0', expected HOST:PORT."),
        (("host:99", 2, 2), "--process_id is 2, expected 0 to 1."),
    ],
)
def test_numbers_that_do_not_fit(args, message):
    from pgjax.distributed.start import start
    from pgjax.errors import UserError

    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        start(*args)
