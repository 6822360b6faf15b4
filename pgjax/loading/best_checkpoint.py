"""Which checkpoint of a run is the best by a score of its evaluations."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterable, Mapping

METRICS_FILE = "metrics.jsonl"  # in a run directory: a JSON object a line, with its `step`
BEST = "best"
BEST_STEP = f"{BEST}/step"


@dataclasses.dataclass(frozen=True)
class TrackedScore:
    """A score of a run's evaluations, such as `answers/acc`, and which way it gets better."""

    key: str
    lower_is_better: bool

    def best(self, values: Mapping[int, float]) -> int | None:
        """Returns the step with the best value, the first of equal ones; NaN is never the best.

        Args:
          values: the score's values by step.
        """
        sign = 1 if self.lower_is_better else -1
        known = {step: sign * value for step, value in values.items() if not math.isnan(value)}
        return min(known, key=lambda step: (known[step], step), default=None)


def read_scores(workdir: pathlib.Path, key: str) -> dict[int, float]:
    """Returns the values of a score that a run has logged, by step."""
    values = {}
    for row in read_rows(workdir):
        if key in row:
            values[row["step"]] = row[key]
    return values


def scores_at(workdir: pathlib.Path, step: int) -> dict[str, dict[str, float]]:
    """Returns the scores of a step that a run has logged, by evaluation.

    Those that the best checkpoint was given at the end of the run are among them: they stand under
    `best/` in a row of the last step, which says the checkpoint's step.
    """
    found: dict[str, dict[str, float]] = {}
    for row in read_rows(workdir):
        if row.get(BEST_STEP, row["step"]) == step:
            for key, value in row.items():
                name, slash, score = key.removeprefix(f"{BEST}/").partition("/")
                if slash:
                    found.setdefault(name, {})[score] = value
    return found


def read_rows(workdir: pathlib.Path) -> Iterable[dict[str, float]]:
    """Yields the rows of `metrics.jsonl` that are whole; none where there is no such file."""
    path = workdir / METRICS_FILE
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # an interruption cut the line
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield row
