"""Training runs in forks of one process, to be killed; imports are paid once, by the first one.

A fork has a session of its own, so that what it leaves behind can be found.
"""

import json
import os
import pathlib
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import pgjax.commands.train
import pgjax.inference.prediction_records
import pgjax.loading.compiler_options
import pgjax.training.loop  # noqa: F401  (imported here, so that the forks need not)
from pgjax.commands.main import main

ORPHAN_SECONDS = 60  # a worker that is still importing ends only after that


class Process:
    """`pgjax train` in a fork."""

    def __init__(self, arguments: Sequence[str], log: pathlib.Path):
        """Starts it.

        Args:
          arguments: after `pgjax train`.
          log: file for its output, to which this appends.
        """
        self.log = log
        log.touch()
        self._begin = log.stat().st_size
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._run(arguments)

    def _run(self, arguments: Sequence[str]) -> None:
        os.setsid()
        with self.log.open("ab") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        status = 1
        try:
            main(["train", *arguments])
        except SystemExit as e:
            status = e.code if isinstance(e.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        # Threads and handlers end as at a normal exit, but not the caller's of the fork.
        import atexit

        atexit._run_exitfuncs()
        os._exit(status)

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def wait(self, seconds: float) -> int:
        """Its exit status.

        Raises:
          TimeoutError: it does not end within that time; it is killed then.
        """
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL)
                raise TimeoutError(f"no end within {seconds:.0f} s:\n{self.text()[-3000:]}")
            time.sleep(0.005)
        return self.status

    def signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def text(self) -> str:
        """What it has said so far."""
        with self.log.open("rb") as f:
            f.seek(self._begin)
            return f.read().decode(errors="replace")

    def orphans(self) -> list[int]:
        """Processes that outlive it by `ORPHAN_SECONDS`."""
        deadline = time.monotonic() + ORPHAN_SECONDS
        while (found := _session(self.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found


def in_fork(function: Callable[[], Any]) -> Any:
    """The JSON value of a function that starts threads, which must not be where forks begin."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.write(writing, json.dumps(function()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as f:
        text = f.read()
    os.waitpid(pid, 0)
    return json.loads(text)


class Group:
    """The processes of one run."""

    def __init__(self, arguments: Sequence[str], count: int, log: pathlib.Path):
        """Starts them; see `Process`."""
        if count == 1:
            self.processes = [Process(arguments, log)]
            return
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{s.getsockname()[1]}"
        flags = [*arguments, f"--coordinator={address}", f"--num_processes={count}"]
        self.processes = [
            Process([*flags, f"--process_id={k}"], log.with_suffix(f".{k}{log.suffix}"))
            for k in range(count)
        ]

    def running(self) -> bool:
        """Whether any of them runs."""
        return any(p.poll() is None for p in self.processes)

    def wait(self, seconds: float) -> list[int]:
        """Their exit statuses; see `Process.wait`."""
        return [p.wait(seconds) for p in self.processes]

    def wait_until(self, moment: Callable[[str], bool], seconds: float) -> bool:
        """Waits for a moment; False where all have ended before.

        Args:
          moment: of what process 0 has said so far.
          seconds: to wait at most.

        Raises:
          TimeoutError: neither comes.
        """
        deadline = time.monotonic() + seconds
        while self.running():
            if moment(self.processes[0].text()):
                return True
            if time.monotonic() > deadline:
                for p in self.processes:
                    p.signal(signal.SIGKILL)
                raise TimeoutError(
                    f"not within {seconds:.0f} s: {self.processes[0].text()[-3000:]}"
                )
            time.sleep(0.002)
        return False

    def orphans(self) -> list[int]:
        """See `Process.orphans`."""
        return [pid for p in self.processes for pid in p.orphans()]


def _session(pid: int) -> list[int]:
    """Processes of a session, that are not dead and waiting to be reaped."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == pid and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found
