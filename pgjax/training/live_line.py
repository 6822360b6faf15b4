"""The line that shows how far training has come."""

import sys
import time

import jax
from tqdm import tqdm

from pgjax.console import hms, say


class LiveLine:
    """Shows the step, the loss, the rate, the remaining time, and how long input is waited for.

    Attributes:
      waited: seconds spent waiting for input since the last update; the caller adds to it.
    """

    def __init__(self, start: int, total: int) -> None:
        """Starts a progress bar on a terminal; elsewhere each update prints one line."""
        self._tty = sys.stderr.isatty() and jax.process_index() == 0
        self._bar = tqdm(total=total, initial=start, disable=not self._tty, unit="step")
        self._total, self._last = total, (start, time.perf_counter())
        self.waited = 0.0

    def update(self, step: int, loss: float, batch_size: int) -> dict[str, float]:
        """Shows the state after `step` updates.

        Args:
          step: the number of updates so far.
          loss: the loss of the last one.
          batch_size: the number of examples in a batch.

        Returns:
          The rates since the last call: `steps_per_second`, `examples_per_second`, and
          `input_wait`, the share of time that was spent waiting for input.
        """
        last_step, last_time = self._last
        now = time.perf_counter()
        seconds = max(now - last_time, 1e-9)
        per_second = (step - last_step) / seconds
        wait = min(self.waited / seconds, 1.0)
        self._last, self.waited = (step, now), 0.0
        self._bar.set_postfix_str(f"loss {loss:.4f}, input wait {wait:.0%}", refresh=False)
        self._bar.update(step - self._bar.n)
        if not self._tty:
            eta = (self._total - step) / max(per_second, 1e-9)
            say(
                f"step {step}/{self._total}  loss {loss:.4f}  {per_second:.2f} steps/s  "
                f"ETA {hms(eta)}  input wait {wait:.0%}"
            )
        return {
            "steps_per_second": per_second,
            "examples_per_second": per_second * batch_size,
            "input_wait": wait,
        }

    def close(self) -> None:
        """Ends the progress bar, and leaves its last line on the terminal."""
        self._bar.close()
