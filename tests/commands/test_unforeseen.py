"""Whatever is thrown inside a command, it ends with one sentence and a status."""

import errno
import os
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import PHOTOS, ROOT

from pgjax.commands.list import List
from pgjax.commands.train import Train
from pgjax.errors import UserError


def thrown(monkeypatch, error, command=List):
    def run(self):
        raise error

    monkeypatch.setattr(command, "run", run)


def test_the_traceback_is_in_the_file_that_the_sentence_names(program, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    thrown(monkeypatch, TypeError("unhashable\ntype"))
    err = program("list", "configs", status=1).err
    told = (
        r"error: Unexpected TypeError: unhashable type; please report it with (\S+), which has .*"
    )
    text = pathlib.Path(re.fullmatch(told + r"\.\n", err)[1]).read_text()
    assert re.search(r": list configs\n\nTraceback .*\n\s+raise error\n.*TypeError", text, re.S)


def test_the_traceback_is_printed_where_no_file_can_be_written(program, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    thrown(monkeypatch, TypeError("unhashable"))
    *lines, last = program("list", "configs", status=1).err.splitlines()
    assert lines[0].startswith("Traceback") and lines[-1] == "TypeError: unhashable"
    assert last == "error: Unexpected TypeError: unhashable; please report it with the lines above."


def test_debug_prints_it(program, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    thrown(monkeypatch, TypeError("unhashable"))
    err = program("list", "configs", "--debug", status=1).err
    assert err.startswith("Traceback") and err.endswith("\nerror: TypeError: unhashable.\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a/b"),
         "The system refuses a/b (No space left on device)."),
        (RuntimeError("tensorstore: Too many open files"),
         "The system refuses a file (Too many open files)."),
        (MemoryError("of 3 GiB"), "MemoryError: of 3 GiB."),
        (KeyboardInterrupt(), "Interrupted; files that were finished before are complete."),
    ],
)  # fmt: skip
def test_what_the_machine_refuses_needs_no_traceback(error, sentence, program, monkeypatch):
    thrown(monkeypatch, error)
    status = 130 if isinstance(error, KeyboardInterrupt) else 1
    assert program("list", "configs", status=status).err == f"error: {sentence}\n"


class Peers:
    """Remembers what it was asked and told."""

    def __init__(self, lost):
        self.lost, self.told = lost, []

    def suspect(self, wait):
        self.told.append(f"suspects within {wait} s")
        if self.lost:
            raise SystemExit(75)  # as `Peers` ends a process, without coming back

    def leave(self, sentence):
        self.told.append(sentence)


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("kind", ["a failed save", "a collective"])
def test_an_error_that_a_lost_process_explains_waits_for_that(kind, lost, program, monkeypatch):
    """A save, or a product over all devices, fails first; the loss is noticed a little later."""
    peers = Peers(lost)
    monkeypatch.setattr("pgjax.distributed.get_peers", lambda: peers)
    monkeypatch.setattr("pgjax.distributed.start.get_peers", lambda: peers)
    monkeypatch.setattr("os._exit", sys.exit)
    cause = RuntimeError("Gloo: connection closed by peer")

    def run(self):
        self.joined = True
        if kind == "a collective":
            raise cause
        raise UserError("The checkpoint of step 5 could not be saved.") from cause

    monkeypatch.setattr(Train, "run", run)
    err = program("train", status=75 if lost else 1).err
    assert peers.told[0] == "suspects within 15 s"
    assert len(err.splitlines()) == (0 if lost else 1)
    if not lost:
        assert err == f"error: {peers.told[1]}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_too_few_open_files_are_told_before_any_work():
    done = subprocess.run(
        f"ulimit -n 64; {sys.executable} -m pgjax train --config=quickstart --workdir=none",
        shell=True, cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    told = "This process may have 64 open files, expected 128 or more; `ulimit -n 4096` before it"
    assert (done.returncode, done.stderr) == (1, f"error: {told} allows that.\n")


def test_a_soft_limit_of_open_files_is_raised(program):
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        program("list", "configs")
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(4096, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


SCRIPT = """
import pgjax
config = {"name": "jsonl", "fname": "PHOTOS", "root": "", "split": "train"}
from pgjax.data.loader import Part, TrainLoader
from pgjax.data.sources import make_source
next(iter(TrainLoader([Part(make_source(config), dict)], 2, seed=0, workers=2)))
"""


def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("PHOTOS", str(PHOTOS / "photos.jsonl")))
    done = subprocess.run(
        [sys.executable, script], env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.count("Traceback") == 1
    told = f"Every worker process imports {script}, which would begin its work again there: put"
    assert done.stderr.splitlines()[-1].startswith(f"pgjax.errors.UserError: {told}")
