"""Runs checks of hostile inputs in forked children, with limits of time and memory."""

import collections
import contextlib
import dataclasses
import gc
import json
import os
import pathlib
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from pgjax.errors import MOST_SHOWN, UserError

BATCH = 100  # inputs that one child begins with
WALL_SECONDS = 60.0  # for one input, in case it waits; much, since the machine may be busy
WARM_UP = 120.0  # seconds for imports, before the first input
MEMORY = 3 << 30  # bytes of address space that a child may add to what it had
LONGEST_MESSAGE = 2 * MOST_SHOWN
GOOD = ("ok", "refused")
VERDICTS = (*GOOD, "TRACEBACK", "CRASH", "HANG", "WRONG")


class Wrong(Exception):
    """What was read is not what an independent reading gives."""


@dataclasses.dataclass(frozen=True)
class Target:
    """One thing that takes what users give.

    Attributes:
      name: of the target.
      inputs: `(rng, count) -> inputs`, the same for the same rng.
      check: `(input, folder)`, with an empty folder. It returns where the input is taken, raises
        UserError where it is refused, and `Wrong` where the result is not right.
      share: its part of the campaign, relative to the others.
      prepare: does what takes long, once in each child.
      before: does what takes longer, once in the parent, which may not compute.
    """

    name: str
    inputs: Callable[[random.Random, int], Iterable[Any]]
    check: Callable[[Any, pathlib.Path], object]
    share: float = 1.0
    prepare: Callable[[], object] = lambda: None
    before: Callable[[], object] = lambda: None
    seconds: float = 5.0  # of processor time for one input; more where something is compiled


@dataclasses.dataclass
class Outcome:
    """What came of an input that should not have come of it."""

    target: str
    place: str  # BATCH.INDEX
    verdict: str
    detail: str


def run(
    target: Target, seed: int, count: int, batch: int = BATCH, only: tuple[int, int] | None = None
) -> tuple[collections.Counter[str], list[Outcome]]:
    """Checks `count` inputs of a target.

    Args:
      target: the target.
      seed: other seeds give other inputs.
      count: of inputs.
      batch: inputs that one child begins with.
      only: (batch, index) of one input to check again, in this process.

    Returns:
      How many inputs had each verdict, and the outcomes that are not good.
    """
    target.before()
    counts: collections.Counter[str] = collections.Counter()
    bad: list[Outcome] = []
    for number in range(-(-count // batch)):
        size = min(batch, count - number * batch)
        if only and number == only[0]:
            _again(target, seed, number, batch, only[1])
        if only:
            continue
        for index, verdict, detail in _batch(target, seed, number, size):
            counts[verdict] += 1
            if verdict not in GOOD:
                bad.append(Outcome(target.name, f"{number}.{index}", verdict, detail))
    return counts, bad


def made(target: Target, seed: int, number: int, count: int) -> list[Any]:
    """The inputs of a batch."""
    return list(target.inputs(random.Random(f"{seed}/{target.name}/{number}"), count))


def _again(target: Target, seed: int, number: int, count: int, index: int) -> None:
    given = made(target, seed, number, count)[index]
    print(f"{given!r:.4000}")
    target.prepare()
    with tempfile.TemporaryDirectory() as folder:
        print(target.check(given, pathlib.Path(folder)))


def _batch(target: Target, seed: int, number: int, count: int) -> Iterable[tuple[int, str, str]]:
    """Yields (index, verdict, detail); a child that is lost is replaced from the next input on."""
    index = 0
    while index is not None:
        index = yield from _child(target, seed, number, count, index)


def _child(target: Target, seed: int, number: int, count: int, first: int):
    """Checks inputs from `first` on; returns the index to go on with, or None."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        ours, theirs = os.pipe()
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            os.close(ours)
            _in_child(target, seed, number, count, first, pathlib.Path(folder), theirs)
        os.close(theirs)
        index, began, spent, rest = None, time.monotonic(), 0.0, b""
        verdict = ""
        with os.fdopen(ours, "rb", 0) as pipe:
            while True:
                ready, _, _ = select.select([pipe], [], [], 0.25)
                chunk = pipe.read(1 << 16) if ready else None
                if chunk == b"":
                    break
                *lines, rest = (rest + (chunk or b"")).split(b"\n")
                for line in lines:
                    index, verdict, detail = json.loads(line)
                    began, spent = time.monotonic(), _cpu_seconds(pid)
                    if verdict:
                        yield index, verdict, detail
                waited = time.monotonic() - began
                limit = WARM_UP if index is None else WALL_SECONDS
                if waited > limit or (
                    index is not None and _cpu_seconds(pid) - spent > target.seconds
                ):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    yield index or 0, "HANG", f"after {waited:.0f} s"
                    return (index or 0) + 1
        _, status = os.waitpid(pid, 0)
        if index is None or not verdict:  # it ended within an input
            yield index or 0, "CRASH", f"exit status {os.waitstatus_to_exitcode(status)}"
            return (index or 0) + 1 if (index or 0) + 1 < count else None
        return None


def _cpu_seconds(pid: int) -> float:
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _in_child(
    target: Target, seed: int, number: int, count: int, first: int, folder: pathlib.Path, pipe: int
) -> None:
    """Checks inputs, and says before each that it begins, and after each what came of it."""

    def say(index: int, verdict: str = "", detail: str = "") -> None:
        os.write(pipe, json.dumps([index, verdict, detail[-2000:]]).encode() + b"\n")

    status = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        for output in (1, 2):
            os.dup2(quiet, output)
        inputs = made(target, seed, number, count)
        target.prepare()
        gc.freeze()  # what is there already need not be looked at again
        size = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        for index in range(first, len(inputs)):
            place = folder / str(index)
            place.mkdir()
            say(index)
            verdict, detail = judged(lambda: target.check(inputs[index], place))  # noqa: B023
            say(index, verdict, detail)
            shutil.rmtree(place, ignore_errors=True)
            if index % 10 == 9:
                gc.collect()
        status = 0
    except BaseException:
        with contextlib.suppress(OSError):
            say(first, "WRONG", f"the fuzzer itself: {traceback.format_exc()}")
    finally:
        os._exit(status)


def judged(check: Callable[[], object]) -> tuple[str, str]:
    """The verdict over a check, and what it is based on."""
    try:
        check()
    except UserError as e:
        said = str(e)
        if not said or len(said) > LONGEST_MESSAGE:
            return "WRONG", f"a message of {len(said)} characters: {said[:200]}"
        return "refused", ""
    except Wrong as e:
        return "WRONG", str(e)
    except BaseException:
        return "TRACEBACK", traceback.format_exc()
    return "ok", ""
