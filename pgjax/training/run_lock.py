"""One run at a time in a run directory: a lock that survives kills, also on shared file systems.

`run.lock` names its holder: the machine, the process and when that began. On the same machine a
holder is alive if such a process is. Of another machine's holder a heartbeat tells, the file's
modification time: it is dead where that has not moved for `STALE_SECONDS` of the watcher's own
clock, so that clocks need not agree.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator

from pgjax.errors import UserError, note

LOCK_FILE = "run.lock"
BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    token: str
    host: str
    machine: str  # differs between machines, their boots, and containers
    pid: int
    started: str  # of the process, as the kernel counts; a number is given to others later

    def dead_here(self) -> bool | None:
        """Whether it is dead; None where this machine cannot know."""
        if self.machine != _machine():
            return None
        return _start_of(self.pid) != self.started


class RunLock:
    """The lock of a run directory, held until `release` or the death of this process."""

    def __init__(self, workdir: pathlib.Path):
        """Takes the lock; makes the directory if there is none.

        Raises:
          UserError: another run holds it, or the directory cannot be written.
        """
        self._path = workdir / LOCK_FILE
        self._made = not workdir.exists()
        self.holder = Holder(
            uuid.uuid4().hex, socket.gethostname(), _machine(), os.getpid(), _start_of(os.getpid())
        )
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            self._take()
        except OSError as e:
            raise UserError(f"--workdir {workdir} cannot be written ({e}).") from None
        self._released = threading.Event()
        threading.Thread(target=self._keep_beating, daemon=True).start()

    def release(self) -> None:
        """Gives the lock back; what is not this process's any more stays."""
        self._released.set()
        with contextlib.suppress(OSError):
            if read_holder(self._path) == self.holder:
                self._path.unlink()
            if self._made:
                self._path.parent.rmdir()  # if nothing came into it

    def _take(self) -> None:
        waited = False
        while True:
            with _opened_alone(self._path) as file:
                found = _parse(file.read())
                dead = found.dead_here() if found else True
                if dead or (waited and dead is None):
                    if found:
                        note(
                            f"{self._path.parent}: the run of {_name(found)} is dead; this one "
                            "goes on from what it saved."
                        )
                    file.seek(0)
                    file.truncate()
                    file.write(json.dumps(dataclasses.asdict(self.holder)))
                    file.flush()
                    os.fsync(file.fileno())
                    return
            if dead is None and not waited:
                waited = self._silent(found)
                continue
            raise UserError(
                f"--workdir {self._path.parent} is in use by another run ({_name(found)}); wait "
                "for its end, or take another directory."
            )

    def _silent(self, holder: Holder) -> bool:
        """Whether a holder elsewhere gives no heartbeat for `STALE_SECONDS`; False at its first."""
        note(
            f"{self._path.parent} is locked by {_name(holder)}; looking {STALE_SECONDS:.0f} s long "
            "for a sign of life of it."
        )
        first, deadline = _beat_of(self._path), time.monotonic() + STALE_SECONDS
        while time.monotonic() < deadline:
            time.sleep(min(1.0, STALE_SECONDS / 10))
            if _beat_of(self._path) != first:
                found = read_holder(self._path)
                if found is None:
                    return True
                raise UserError(
                    f"--workdir {self._path.parent} is in use by another run ({_name(found)}); "
                    "wait for its end, or take another directory."
                )
        return True

    def _keep_beating(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # a file system that is away for a while
                os.utime(self._path)


def read_holder(path: pathlib.Path) -> Holder | None:
    """Who holds a lock; None where nobody does."""
    try:
        return _parse(path.read_text())
    except OSError:
        return None


def _parse(text: str) -> Holder | None:
    try:
        return Holder(**json.loads(text))
    except (ValueError, TypeError):
        return None  # cut by a kill while it was written, under the file's own lock


def _name(holder: Holder) -> str:
    return f"process {holder.pid} on {holder.host}"


def _beat_of(path: pathlib.Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@contextlib.contextmanager
def _opened_alone(path: pathlib.Path) -> Iterator:
    """The file, opened by one process at a time, as far as the file system has such locks."""
    while True:
        with path.open("a+") as file:
            with contextlib.suppress(OSError):  # none there: the heartbeats are left
                fcntl.flock(file, fcntl.LOCK_EX)
            if _same_file(file, path):  # else its holder has just removed it
                file.seek(0)
                yield file
                return


def _same_file(file, path: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _machine() -> str:
    """Equal in processes that see one another's numbers."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _start_of(pid: int) -> str:
    """When a process began; "" for one that is not, or is dead but not yet reaped."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        if pathlib.Path("/proc/self/stat").exists():
            return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "alive"
