"""Judges a run by the scores of its evaluations: which step is the best, and whether to go on."""

import dataclasses
from collections.abc import Collection, Mapping

from pgjax.distributed import exchange
from pgjax.errors import UserError
from pgjax.evaluation.evaluators import Result
from pgjax.loading.best_checkpoint import TrackedScore, read_scores
from pgjax.training.setup import TrainingRun


@dataclasses.dataclass
class _History:
    """A score with its values so far, by step."""

    score: TrackedScore
    values: dict[int, float]

    def add(self, step: int, results: Mapping[str, Result], what: str) -> None:
        """Adds the value of a step, if the evaluation has run; all processes take the first's."""
        evaluation, _, name = self.score.key.partition("/")
        if evaluation not in results:
            return
        scores = results[evaluation].scores
        if name not in scores:
            raise UserError(
                f"{what} is {self.score.key!r}, but the scores of {evaluation} are "
                f"{', '.join(scores)}."
            )
        self.values[step] = exchange(f"{what} at step {step}", scores[name])[0]


class Judge:
    """What `config.keep_best` and `config.early_stopping` say about a run so far.

    Both follow from the scores that the run has logged, so that a run that was interrupted is
    judged as if it had not been.
    """

    def __init__(self, run: TrainingRun, start: int) -> None:
        """Reads the scores of an interrupted run.

        Args:
          run: the run, whose rows of metrics after `start` are removed.
          start: the step from which it goes on.
        """
        config = run.config
        self._patience = config.early_stopping.patience
        stopping = config.early_stopping.metric or config.keep_best
        steps = run.checkpoints.steps()
        self._kept = _history(run, config.keep_best, start, "config.keep_best", steps)
        self._watched = None
        if self._patience:
            self._watched = _history(run, stopping, start, "config.early_stopping.metric")

    def add(self, step: int, results: Mapping[str, Result]) -> bool:
        """Takes the results of evaluations after a step.

        Returns:
          Whether the step is now the best one, so that its checkpoint is to be kept.

        Raises:
          UserError: an evaluation does not have the score that the config names.
        """
        if self._watched:
            self._watched.add(step, results, "config.early_stopping.metric")
        if self._kept and step:  # the parameters before the first step are not saved
            self._kept.add(step, results, "config.keep_best")
        return self._kept is not None and self.best == step

    @property
    def best(self) -> int | None:
        """The step whose checkpoint is kept as the best; None where there is none."""
        return self._kept.score.best(self._kept.values) if self._kept else None

    def told(self) -> str:
        """Returns the best step so far with its score, in words; "" where there is none."""
        if not self._kept or (best := self.best) is None:
            return ""
        return f"{self._kept.score.key} {self._kept.values[best]:.4g} at step {best}"

    def verdict(self) -> str:
        """Returns why the run ends here, or "" if it goes on."""
        if not self._watched:
            return ""
        score, values = self._watched.score, self._watched.values
        best = score.best(values)
        since = sum(step > (best or 0) for step in values)
        if since < self._patience:
            return ""
        known = f"{values[best]:.4g} at step {best}" if best is not None else "NaN"
        return f"{score.key} was not better than {known} in {since} evaluations"


def _history(
    run: TrainingRun, text: str, start: int, what: str, steps: Collection[int] | None = None
) -> _History | None:
    """The values that are logged, of `steps` alone where they are given, as process 0 sees them."""
    score = run.tracked(text)
    if score is None:
        return None
    values = read_scores(run.workdir, score.key)
    found = exchange(
        f"{what} before step {start}",
        [(k, v) for k, v in values.items() if k <= start and (steps is None or k in steps)],
    )
    return _History(score, {step: value for step, value in found[0]})
