"""A trace of some training steps for TensorBoard."""

import pathlib
from typing import Any

import jax

from pgjax.console import say
from pgjax.errors import UserError


class Profile:
    """Traces the steps FROM to TO, both included, into a folder that TensorBoard can open."""

    def __init__(self, steps: str, folder: pathlib.Path) -> None:
        """Prepares a trace.

        Args:
          steps: `FROM-TO`, or "" for no trace.
          folder: where the trace is written.

        Raises:
          UserError: `steps` is not two positive numbers in ascending order.
        """
        first, _, last = steps.partition("-")
        if steps and not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last)):
            raise UserError(f"--profile is {steps!r}, expected FROM-TO, such as 10-12.")
        self._steps = (int(first), int(last)) if steps else (0, 0)
        self._folder = folder

    def before(self, step: int) -> None:
        """Starts the trace if `step` is the first one to trace."""
        if step == self._steps[0]:
            jax.profiler.start_trace(self._folder)

    def after(self, step: int, result: Any) -> None:
        """Ends the trace if `step` is the last one to trace, once its `result` is computed."""
        if step == self._steps[1]:
            jax.block_until_ready(result)
            jax.profiler.stop_trace()
            say(f"The trace of steps {self._steps[0]}-{self._steps[1]} is in {self._folder}.")
