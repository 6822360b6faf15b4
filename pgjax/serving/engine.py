"""The thread that answers: requests wait, get a row of the batch, and leave it when they end."""

import collections
import dataclasses
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from pgjax.console import Phase
from pgjax.decoding.continuous import Chosen, Rows
from pgjax.errors import UserError
from pgjax.inference.answer import read_answer
from pgjax.inference.lengths import trimmed
from pgjax.serving.row_programs import Inputs, RowPrograms
from pgjax.text.tokenizer import Tokenizer

TOGETHER = 4  # prompts that are read at once, where so many wait and find a row
FAILED = "Answering failed for an unexpected reason; the server's terminal shows the traceback."
STOPPED = "The server is stopping."


class QueueFull(UserError):
    """More answers wait than may."""


class Tokens(NamedTuple):
    """What was generated for one row, on the host; see `pgjax.decoding.continuous.Chosen`."""

    tokens: np.ndarray
    logprobs: np.ndarray
    top_tokens: np.ndarray
    top_logprobs: np.ndarray


class Progress(NamedTuple):
    """What there is of an answer.

    Attributes:
      found: its tokens so far.
      ended: whether there will be no more.
      problem: why it cannot be completed, in one sentence; "" where nothing is wrong.
    """

    found: Tokens
    ended: bool
    problem: str = ""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Job:
    """An answer to be generated.

    Attributes:
      inputs: image, text and its masks of one row, as a preprocessor makes them.
      limit: the longest answer in tokens.
      tell: called from the engine's thread when the answer has ended or failed and, where it is
        streamed, whenever there is more of it.
      streams: whether it is streamed.
      stop: texts that end it.
      temperature: as in `pgjax.decoding.continuous.Rows`, like the following ones.
      top_p: for sampling.
      seed: of the draws.
      place: of the draws.
      tops: whether the most probable tokens at each place are wanted.
    """

    inputs: Inputs
    limit: int
    tell: Callable[[Progress], None]
    streams: bool = False
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    place: int = 0
    tops: bool = False


class _Row:
    """A row of the batch that a job has, and what was generated for it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.length = self.last = 0
        self._parts: list[Tokens] = []

    def add(self, new: Tokens, eos_id: int) -> bool:
        """Adds tokens up to the row's end, and returns whether that is among them."""
        tokens = new.tokens[: self.job.limit - self.length].tolist()
        count = tokens.index(eos_id) + 1 if eos_id in tokens else len(tokens)
        self._parts.append(Tokens(*(x[:count] for x in new)))
        self.length, self.last = self.length + count, tokens[count - 1]
        return self.last == eos_id or self.length == self.job.limit

    def found(self) -> Tokens:
        """All tokens so far."""
        if len(self._parts) > 1:
            self._parts = [Tokens(*map(np.concatenate, zip(*self._parts, strict=True)))]
        return self._parts[0]


class Engine:
    """Answers jobs in one thread, as many together as there are rows."""

    def __init__(self, programs: RowPrograms, tokenizer: Tokenizer, most_waiting: int) -> None:
        """Starts the thread.

        Args:
          programs: of the model.
          tokenizer: of the model.
          most_waiting: answers that may wait for a row.
        """
        self._programs, self._tokenizer, self._most_waiting = programs, tokenizer, most_waiting
        self._cache = programs.empty()
        self._rows: list[_Row | None] = [None] * programs.rows
        self._waiting: collections.deque[Job] = collections.deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="pgjax engine", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether jobs are answered."""
        return self._thread.is_alive() and not self._closing

    def counts(self) -> tuple[int, int]:
        """How many answers are being generated, and how many wait for a row."""
        with self._changed:
            return len(self._rows) - self._rows.count(None), len(self._waiting)

    def is_full(self) -> bool:
        """Whether no further job is taken."""
        with self._changed:
            return self._room() <= 0

    def _room(self) -> int:
        return self._most_waiting + self._rows.count(None) - len(self._waiting)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Lets jobs wait for rows.

        Raises:
          QueueFull: there are too many; none is taken.
          UserError: the engine does not answer any more.
        """
        with self._changed:
            if not self.is_alive():
                raise UserError(STOPPED)
            if len(jobs) > self._room():
                raise QueueFull(
                    f"{len(self._waiting)} answers wait, and {len(jobs)} more would be too many "
                    "for this server; ask again later."
                )
            self._waiting.extend(jobs)
            self._changed.notify()

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Takes out those of the jobs that have not ended; they are not told anything more."""
        with self._changed:
            self._waiting = collections.deque(job for job in self._waiting if job not in jobs)
            self._rows = [row if row and row.job not in jobs else None for row in self._rows]

    def close(self, seconds: float) -> bool:
        """Ends the thread, and fails what is not answered; returns whether it ended in time."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._closing:
                try:
                    self._answer()
                except Exception:
                    traceback.print_exc()
                    self._fail(FAILED)
                    self._cache = self._programs.empty()  # what failed may have used up the old one
        finally:
            with self._changed:
                self._closing = True
                self._rows += [_Row(job) for job in self._waiting]
                self._waiting.clear()
            self._fail(STOPPED)

    def _answer(self) -> None:
        """Waits until there is work, fills the rows that are free, and continues all of them."""
        with self._changed:
            while not (self._waiting or any(self._rows) or self._closing):
                self._changed.wait()  # for `submit` or `close`
        while not self._closing and (joining := self._joining()):
            self._join(joining)
        self._go_on()

    def _joining(self) -> list[tuple[int, _Row]]:
        """Gives free rows to the jobs that have waited longest."""
        with self._changed:
            free = [i for i, row in enumerate(self._rows) if row is None]
            count = min(len(free), len(self._waiting))
            count = TOGETHER if count >= TOGETHER else min(count, 1)
            found = [(i, _Row(self._waiting.popleft())) for i in free[:count]]
            for i, row in found:
                self._rows[i] = row
            return found

    def _join(self, joining: Sequence[tuple[int, _Row]]) -> None:
        slots, rows = zip(*joining, strict=True)
        width = max(self._programs.width(int(row.job.inputs["mask_input"].sum())) for row in rows)
        inputs = [trimmed(row.job.inputs, width) for row in rows]
        self._cache, chosen = self._programs.join(self._cache, inputs, slots, _asked(rows))
        self._tell(slots, rows, chosen)

    def _go_on(self) -> None:
        with self._changed:
            rows = list(self._rows)
        used = max((i + 1 for i, row in enumerate(rows) if row), default=0)
        if used:
            rows = rows[: next(n for n in self._programs.sizes() if n >= used)]
            self._cache, chosen = self._programs.go_on(self._cache, _asked(rows))
            self._tell(range(len(rows)), rows, chosen)

    def _tell(self, slots: Sequence[int], rows: Sequence[_Row | None], chosen: Chosen) -> None:
        """Adds new tokens to rows, tells their jobs, and takes back the rows that have ended."""
        new: Any = jax.device_get(chosen)
        for i, (slot, row) in enumerate(zip(slots, rows, strict=True)):
            if row is None:
                continue
            ended, job = row.add(Tokens(*(x[i] for x in new)), self._tokenizer.eos_id), row.job
            if job.stop and not ended:
                tokens, logprobs, *_ = row.found()
                ended = read_answer(self._tokenizer, tokens, logprobs, job.stop).ended
            with self._changed:
                if self._rows[slot] is not row:  # it was cancelled meanwhile
                    continue
                if ended:
                    self._rows[slot] = None
            if ended or job.streams:
                job.tell(Progress(row.found(), ended))

    def _fail(self, problem: str) -> None:
        with self._changed:
            failed = [row.job for row in self._rows if row]
            self._rows = [None] * self._programs.rows
        for job in failed:
            blank = Tokens(*[np.zeros(0, np.float32)] * 4)
            job.tell(Progress(blank, True, problem))


def compile_all(programs: RowPrograms, example: Inputs) -> None:
    """Compiles every program, so that no request waits for that; `example` is of any prompt."""
    cache = programs.empty()
    for count in sorted({1, TOGETHER} & {*range(programs.rows + 1)}):
        for width in programs.widths():
            with Phase(f"compiling: prompts of {width} tokens, {count} at once"):
                inputs = [trimmed(example, width)] * count
                cache, _ = programs.join(cache, inputs, range(count), _asked([None] * count))
    for count in programs.sizes():
        with Phase(f"compiling: tokens of {count} rows"):
            cache, _ = programs.go_on(cache, _asked([None] * count))


def _asked(rows: Sequence[_Row | None]) -> Rows:
    """What the compiled programs are told about rows; those without a job are left alone."""

    def each(of: Callable[[_Row], Any], blank: float, dtype: Any) -> Any:
        return np.array([blank if row is None else of(row) for row in rows], dtype)

    return Rows(
        token=each(lambda row: row.last, 0, np.int32),
        length=each(lambda row: row.length, 0, np.int32),
        limit=each(lambda row: row.job.limit, 0, np.int32),
        seed=each(lambda row: row.job.seed, 0, np.int32),
        place=each(lambda row: row.job.place, 0, np.int32),
        temperature=each(lambda row: row.job.temperature, 0, np.float32),
        top_p=each(lambda row: row.job.top_p, 1, np.float32),
        tops=each(lambda row: row.job.tops, False, np.bool_).any(),
    )
