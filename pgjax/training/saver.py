"""Saves a training run, at its intervals and when that is asked for."""

import dataclasses
from collections.abc import Callable

from pgjax.errors import Stopped
from pgjax.training.setup import TrainingRun
from pgjax.training.state import resumable_state
from pgjax.training.stop_requests import SAVE, StopRequests


@dataclasses.dataclass
class Saver:
    """What of a run is saved, and when.

    Attributes:
      run: the run, with its state after `step`.
      stops: requests to save or to stop.
      step: the number of updates done.
      position: the position in the data after them.
    """

    run: TrainingRun
    stops: StopRequests
    step: int
    position: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Takes the first step as saved."""
        self._saved = self.step

    def save(self) -> None:
        """Saves in the background, unless this step is saved already.

        Raises:
          UserError: this save or the one before it failed.
        """
        if self._saved != self.step:
            state = self.run.state
            self.run.checkpoints.save(
                self.step, state.params, resumable_state(state), self.position
            )
            self._saved = self.step
        self.stops.saved()

    def heed(self, before_save: Callable[[], object] | None = None) -> None:
        """Saves or stops, if that was asked for; all processes call it equally often.

        Args:
          before_save: called before a save.

        Raises:
          Stopped: a signal asked for it, and the state is saved.
          UserError: a save has failed.
        """
        self.run.checkpoints.check()
        if not (wish := self.stops.due()):
            return
        if before_save:
            before_save()
        self.save()
        if wish != SAVE:
            self.run.checkpoints.wait()
            if not self.step:
                raise Stopped(f"Stopped by {wish} before the first step; nothing is lost.")
            raise Stopped(
                f"Stopped by {wish} after step {self.step} of {self.run.total_steps}, which is "
                f"saved in {self.run.workdir}; the same command goes on from there."
            )
