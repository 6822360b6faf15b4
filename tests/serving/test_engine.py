"""The engine, with programs that answer by a script."""

import threading
import time

import numpy as np
import pytest
from scripted_rows import SCRIPT, TEXT, ScriptedRows

from pgjax.errors import UserError
from pgjax.serving.engine import FAILED, STOPPED, Engine, Job, QueueFull
from pgjax.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.tiny()


class Asked:
    """A job, and what was told of it."""

    def __init__(self, tokens=8, **options):
        inputs = {"mask_input": np.arange(64) < tokens}
        inputs |= {"text": np.zeros(64, np.int32), "mask_ar": np.zeros(64, np.int32)}
        inputs["image"] = np.zeros((8, 8, 3), np.float32)
        self.told, self.done = [], threading.Event()
        self.job = Job(inputs=inputs, tell=self.hear, **{"limit": 64, **options})

    def hear(self, progress):
        self.told.append(progress)
        if progress.ended:
            self.done.set()

    def answer(self):
        assert self.done.wait(300)  # compiling may be slow
        last = self.told[-1]
        assert sum(x.ended for x in self.told) == 1
        return last.problem or last.found.tokens.tolist()


@pytest.fixture
def started():
    """Starts engines, which end after the test."""
    before, engines = threading.active_count(), []

    def start(programs, most_waiting=100):
        engines.append(Engine(programs, TOKENIZER, most_waiting))
        return engines[-1]

    yield start
    assert all(engine.close(30) for engine in engines)
    assert threading.active_count() == before and not any(e.is_alive() for e in engines)


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_every_answer_is_whole(started, rows):
    """More jobs than rows, of different lengths: each gets its own tokens, and no others."""
    engine = started(ScriptedRows(rows))
    asked = [Asked(tokens=4 + i, limit=1 + 5 * (i % 7)) for i in range(40)]
    for one in asked:
        engine.submit([one.job])
    for one in asked:
        assert one.answer() == SCRIPT[: one.job.limit]
    assert engine.counts() == (0, 0)


def test_prompts_are_read_together_where_many_wait(started):
    programs = ScriptedRows(8)
    programs.held.clear()
    engine = started(programs)
    asked = [Asked(tokens=4 * i + 4) for i in range(9)]
    for one in asked:
        engine.submit([one.job])
    programs.held.set()
    assert all(one.answer() == SCRIPT for one in asked)
    joined = [count for what, count in programs.calls if what == "join"]
    assert sum(joined) == 9 and 4 in joined


def test_few_rows_are_continued_where_few_are_used(started):
    programs = ScriptedRows(8)
    engine = started(programs)
    one = Asked()
    engine.submit([one.job])
    one.answer()
    assert {count for what, count in programs.calls if what == "go_on"} == {1}


def test_streams_are_told_as_they_grow(started):
    engine = started(ScriptedRows())
    one, other = Asked(streams=True), Asked()
    engine.submit([one.job, other.job])
    one.answer(), other.answer()
    lengths = [len(x.found.tokens) for x in one.told]
    assert lengths == [1, *range(5, len(SCRIPT), 4), len(SCRIPT)] and len(other.told) == 1


def test_a_text_of_stop_ends_the_row(started):
    programs = ScriptedRows(1)
    engine = started(programs)
    one = Asked(stop=("two blue",))
    engine.submit([one.job])
    assert TEXT.startswith(TOKENIZER.decode(one.answer()))
    assert len(one.answer()) < len(SCRIPT) and "two blue" in TOKENIZER.decode(one.answer())


def test_what_is_cancelled_frees_its_row(started):
    programs = ScriptedRows(1)
    engine = started(programs)
    programs.held.clear()
    first, waiting, last = Asked(), Asked(), Asked()
    for one in (first, waiting, last):
        engine.submit([one.job])
    wait_for(lambda: engine.counts() == (1, 2))
    engine.cancel([first.job, waiting.job])
    assert engine.counts() == (0, 1)
    programs.held.set()
    assert last.answer() == SCRIPT and not first.told and not waiting.told


def test_a_full_queue_refuses_all_of_a_request_or_nothing(started):
    programs = ScriptedRows(1)
    engine = started(programs, most_waiting=2)
    programs.held.clear()
    first = Asked()
    engine.submit([first.job])
    wait_for(lambda: engine.counts() == (1, 0))
    with pytest.raises(QueueFull, match="0 answers wait, and 3 more would be too many"):
        engine.submit([Asked().job for _ in range(3)])
    assert engine.counts() == (1, 0)
    engine.submit([Asked().job for _ in range(2)])
    with pytest.raises(QueueFull):
        engine.submit([Asked().job])
    programs.held.set()
    assert first.answer() == SCRIPT


@pytest.mark.filterwarnings("default")
def test_a_failure_fails_who_has_a_row_and_nobody_else(started, capsys):
    programs = ScriptedRows(1)
    engine = started(programs)
    programs.held.clear()
    first, second = Asked(), Asked()
    engine.submit([first.job])
    wait_for(lambda: engine.counts() == (1, 0))
    engine.submit([second.job])
    programs.fails = 1
    programs.held.set()
    assert first.answer() == FAILED and second.answer() == SCRIPT
    assert programs.calls.count(("empty", 1)) == 2  # the cache that failed is not used again
    assert "a device failed" in capsys.readouterr().err


def test_the_end_is_told(started):
    programs = ScriptedRows(1)
    engine = started(programs)
    programs.held.clear()
    asked = [Asked() for _ in range(3)]
    for one in asked:
        engine.submit([one.job])
    wait_for(lambda: engine.counts() == (1, 2))
    assert not engine.close(0.01) and not engine.is_alive()
    programs.held.set()
    assert [one.answer() for one in asked] == [STOPPED] * 3
    with pytest.raises(UserError, match="stopping"):
        engine.submit([Asked().job])
