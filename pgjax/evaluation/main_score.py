"""The score by which the examples of an evaluation are ranked and two runs are compared."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pgjax.registry import EVALUATORS


class MainScore(NamedTuple):
    """A key of a record's `scores`, and whether a lower value is the better one."""

    key: str
    lower_is_better: bool = False

    def of(self, record: Mapping[str, Any]) -> float | None:
        """Returns a record's main score, or None where it has none."""
        return record["scores"].get(self.key)

    def gain(self, record: Mapping[str, Any]) -> float | None:
        """Returns a record's main score such that higher is better, or None where it has none."""
        score = self.of(record)
        return -score if score is not None and self.lower_is_better else score


def main_score(kind: str, metric: Mapping[str, Any]) -> MainScore:
    """Returns the main score of an evaluation.

    Args:
      kind: the kind of the evaluation, a name in `EVALUATORS`.
      metric: the metric's `name` and options, as in the config.

    Raises:
      UserError: the kind or the metric is unknown.
    """
    return EVALUATORS.find(kind, "kind").main_score(metric)
