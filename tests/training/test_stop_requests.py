"""What signals and time ask of a run of one process; of several, see tests/distributed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from pgjax.errors import TEMPORARY, Stopped
from pgjax.training.stop_requests import SAVE, StopRequests

SIGNALS = [signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def not_ignored():
    """Both as in a terminal, also where these tests run under nohup."""
    before = [signal.signal(number, signal.SIG_DFL) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_request(number, capfd):
    before = [signal.getsignal(n) for n in SIGNALS]
    with StopRequests(0) as stops:
        stops.interruptible = False
        assert stops.due() == ""
        os.kill(os.getpid(), number)
        assert stops.due() == number.name
        assert [signal.getsignal(n) for n in SIGNALS] == [signal.SIG_DFL] * 2  # the second one ends
    assert [signal.getsignal(n) for n in SIGNALS] == before
    assert f"NOTE: {number.name}: saving at the next step" in capfd.readouterr().err


def test_before_the_first_step_it_ends_at_once():
    told = "Stopped by SIGTERM before the first step"
    with pytest.raises(Stopped, match=told) as e, StopRequests(0):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert e.value.status == TEMPORARY


def test_time_asks_to_save():
    with StopRequests(0.01) as stops:
        assert stops.due() == ""
        time.sleep(0.7)
        assert stops.due() == SAVE
        stops.saved()
        assert stops.due() == ""
    with StopRequests(0) as stops:
        stops._saved -= 10**6
        assert stops.due() == ""


def test_it_costs_next_to_nothing():
    with StopRequests(20) as stops:
        start = time.perf_counter()
        for _ in range(1000):
            stops.due()
        assert time.perf_counter() - start < 0.1  # 0.1 ms each


SECOND = """
import os, signal, sys, time
from pgjax.training.stop_requests import StopRequests
with StopRequests(0) as stops:
    stops.interruptible = False
    os.kill(os.getpid(), signal.SIGTERM)
    print("goes on", flush=True)
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(10)
"""


def test_a_second_signal_ends_at_once():
    done = subprocess.run(
        [sys.executable, "-c", SECOND], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (-signal.SIGHUP, "goes on\n")


def test_an_ignored_signal_stays_ignored():
    """Under nohup a closed terminal ends nothing."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequests(0) as stops:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stops.due() == ""
    finally:
        signal.signal(signal.SIGHUP, before)
