"""Shows the progress of an evaluation: its rate, the time left, waits for input, and scores."""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
from tqdm import tqdm

from pgjax.console import hms, say
from pgjax.metrics.aggregate import Mean

_EVERY = 10.0  # seconds between lines of output that does not go to a terminal


class Progress:
    """Shows a progress bar on a terminal, and elsewhere prints a line every few seconds.

    The counts of examples are over all processes.
    """

    def __init__(self, name: str, total: int, done: int) -> None:
        """Starts the clock.

        Args:
          name: the name of the evaluation.
          total: the number of examples.
          done: the number of examples whose predictions are stored already.
        """
        self._name, self._total, self._done = name, total, done
        self._new, self._waited, self._mean = 0, 0.0, Mean()
        self._start = self._shown = time.perf_counter()
        self._before = (0, 0.0)  # examples, and seconds of waiting, when it was shown last
        tty = sys.stderr.isatty() and jax.process_index() == 0
        self._bar = tqdm(total=total, initial=done, desc=name, unit="q", disable=not tty)
        if done:
            say(f"{name}: {done:,} of {total:,} predictions are stored already.")

    def timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yields the batches, and counts the time until each arrives as waiting for input."""
        iterator = iter(batches)
        while True:
            start = time.perf_counter()
            batch = next(iterator, None)
            self._waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def add(self, scores: Mapping[str, float]) -> None:
        """Counts an example of this process."""
        self._new = min(self._new + jax.process_count(), self._total - self._done)
        self._mean.add({k: v for k, v in scores.items() if k[0] != "_" and "/" not in k})

    def show(self) -> None:
        """Shows the progress, unless it was shown a moment ago."""
        now = time.perf_counter()
        seconds = now - self._shown
        if seconds < (0.2 if not self._bar.disable else _EVERY):
            return
        rate = (self._new - self._before[0]) / seconds
        wait = min((self._waited - self._before[1]) / seconds, 1.0)
        score = "".join(f"  {k} {v:.4f}" for k, v in self._mean.result().items())
        self._shown, self._before = now, (self._new, self._waited)
        at = min(self._done + self._new, self._total)
        if self._bar.disable:
            eta = hms((self._total - at) / max(rate, 1e-9))
            say(
                f"{self._name} {at:,}/{self._total:,}  {rate:,.1f} questions/s  ETA {eta}  "
                f"input wait {wait:.1%}{score}"
            )
        else:
            self._bar.set_postfix_str(f"input wait {wait:.1%}{score}", refresh=False)
            self._bar.update(at - self._bar.n)

    def close(self) -> str:
        """Ends the progress bar, and returns a sentence that sums up the evaluation."""
        self._bar.close()
        seconds = max(time.perf_counter() - self._start, 1e-9)
        return (
            f"{self._name}: {self._new:,} questions in {seconds:.1f} s "
            f"({self._new / seconds:,.1f}/s, compiling included), "
            f"input wait {min(self._waited / seconds, 1.0):.1%}."
        )
