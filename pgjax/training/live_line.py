"""The line that shows how far training has come."""

import sys
import time

import jax
from tqdm import tqdm

from pgjax.console import hms, say
from pgjax.training.device_use import DeviceUse, describe_use


class LiveLine:
    """Shows the step, the loss, rates, the remaining time, waits for input, and use of the device.

    Attributes:
      waited: seconds spent waiting for input since the last update; the caller adds to it.
    """

    def __init__(self, start: int, total: int, use: DeviceUse | None = None) -> None:
        """Starts a progress bar on a terminal; elsewhere each update prints one line.

        Args:
          start: the number of updates before this run.
          total: the number of updates at its end.
          use: what measures memory and MFU; None leaves both out.
        """
        self._use = use
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
          `input_wait`, the share of time that was spent waiting for input; and what
          `DeviceUse.values` returns.
        """
        last_step, last_time = self._last
        now = time.perf_counter()
        seconds = max(now - last_time, 1e-9)
        per_second = (step - last_step) / seconds
        wait = min(self.waited / seconds, 1.0)
        self._last, self.waited = (step, now), 0.0
        use = self._use.values(1 / per_second) if self._use and per_second else {}
        examples = f"{per_second * batch_size:.3g} examples/s"
        shown = [f"input wait {wait:.0%}", *describe_use(use)]
        self._bar.set_postfix_str(", ".join([f"loss {loss:.4f}", examples, *shown]), refresh=False)
        self._bar.update(step - self._bar.n)
        if not self._tty:
            eta = (self._total - step) / max(per_second, 1e-9)
            say(
                f"step {step}/{self._total}  loss {loss:.4f}  {per_second:.2f} steps/s  "
                f"{examples}  ETA {hms(eta)}  {'  '.join(shown)}"
            )
        return {
            "steps_per_second": per_second,
            "examples_per_second": per_second * batch_size,
            "input_wait": wait,
            **use,
        }

    def close(self) -> None:
        """Ends the progress bar, and leaves its last line on the terminal."""
        self._bar.close()
