"""A TensorBoard trace of some training steps."""

import pathlib
from typing import Any

import jax

from pgjax.console import say
from pgjax.errors import UserError


class Profile:
    """Traces steps FROM to TO, both included, into a folder that TensorBoard opens."""

    def __init__(self, steps: str, folder: pathlib.Path):
        """Args are `FROM-TO`, or "" for none, and the folder.

        Raises:
          UserError: steps that are not two numbers in order.
        """
        first, _, last = steps.partition("-")
        if steps and not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last)):
            raise UserError(f"--profile {steps!r}: expected FROM-TO, such as 10-12.")
        self._steps = (int(first), int(last)) if steps else (0, 0)
        self._folder = folder

    def before(self, step: int) -> None:
        """Starts the trace if this is the first of the steps."""
        if step == self._steps[0]:
            jax.profiler.start_trace(self._folder)

    def after(self, step: int, result: Any) -> None:
        """Ends it if this is the last, once its `result` is there."""
        if step == self._steps[1]:
            jax.block_until_ready(result)
            jax.profiler.stop_trace()
            say(f"Trace of steps {self._steps[0]}-{self._steps[1]}: {self._folder}")
