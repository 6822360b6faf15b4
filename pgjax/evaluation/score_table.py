"""Tables of scores: the measured one with its interval, the published one, and the difference."""

import collections
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pgjax.evaluation.stored_evaluation import StoredEvaluation, read_evaluations
from pgjax.metrics.statistics import Interval, confidence_interval

HEADER = (
    "checkpoint", "benchmark", "evaluation", "score", "measured", "95 %", "published",
    "difference", "published on",
)  # fmt: skip
_COUNTS = ("examples", "skipped", "dropped")


class Row(NamedTuple):
    """A score, measured and published; both are in the unit in which it is published.

    `falls` says that the evaluation's scores are losses: lower ones are better.
    """

    checkpoint: str
    benchmark: str
    evaluation: str
    score: str
    measured: float | None
    interval: Interval | None
    published: float | None
    split: str
    percent: bool
    falls: bool = False

    def cells(self) -> tuple[str, ...]:
        """Returns the row as text, in the order of `HEADER`."""
        digits = 2 if self.percent else 3
        difference = ""
        if self.measured is not None and self.published is not None:
            difference = f"{self.measured - self.published:+.{digits}f}"
        ends = self.interval and [f"{v:.{digits}f}" for v in self.interval[1:]]
        return (
            *self[:4],
            "" if self.measured is None else f"{self.measured:.{digits}f}",
            "–".join(ends or ()),
            "" if self.published is None else f"{self.published:.{digits}f}",
            difference,
            self.split,
        )


def folder_rows(
    folder: pathlib.Path,
    published: Mapping[str, Mapping[str, Any]],
    plain: Sequence[str],
    only: Sequence[str] | None = None,
) -> list[Row]:
    """Returns a row for each score in a folder of `pgjax evaluate`, and for each published one.

    Args:
      folder: the folder.
      published: `{name: {split, scores}}`, as in `pgjax.benchmarks.published`.
      plain: the names of scores that are not published in percent.
      only: the names of the evaluations; None takes all.

    Raises:
      UserError: the folder holds no finished evaluation.
    """
    rows = []
    for name, found in read_evaluations(folder).items():
        if only and name not in only:
            continue
        theirs = published.get(found.about["published"], {"split": "", "scores": {}})
        values = _values(found.records, str(found.identity["metric"].get("key", "")))
        percent = {_base(key) for key in theirs["scores"]} - set(plain)
        for key in dict.fromkeys([*found.scores, *theirs["scores"]]):
            if key in _COUNTS or key.startswith("_"):
                continue
            its = theirs["scores"].get(key, {}).get(found.about["res"])
            split = "" if its is None else _split(theirs["split"], found.identity["data"])
            scale = 100.0 if _base(key) in percent else 1.0
            rows.append(_row(name, found, key, values.get(key), scale, its, split))
    return rows


def _row(
    name: str,
    found: StoredEvaluation,
    key: str,
    values: Sequence[float] | None,
    scale: float,
    published: float | None,
    split: str,
) -> Row:
    """Returns the row of a score, given its values for single questions."""
    measured, interval = found.scores.get(key), None
    if measured is not None and values is not None:
        interval = confidence_interval(values)
        if not math.isclose(interval.mean, measured, rel_tol=1e-6, abs_tol=1e-9):
            interval = None  # the score is not the mean over questions, but over their types
    return Row(
        checkpoint=found.about.get("checkpoint", ""),
        benchmark=found.about.get("benchmark", ""),
        evaluation=name,
        score=key,
        measured=None if measured is None else measured * scale,
        interval=interval and Interval(*(v * scale for v in interval)),
        published=published,
        split=split,
        percent=scale != 1,
        falls=found.main_score.lower_is_better,
    )


def _base(key: str) -> str:
    """Returns the score that a breakdown belongs to, such as `acc` for `acc/number`."""
    return key.partition("/")[0]


def _values(records: Iterable[Mapping[str, Any]], category: str) -> dict[str, list[float]]:
    """Returns the scores of single records by key, and by `KEY/category` for records with one."""
    values = collections.defaultdict(list)
    for record in records:
        for key, value in record["scores"].items():
            values[key].append(value)
            if category in record:
                values[f"{key.removesuffix('_all')}/{record[category]}"].append(value)
    return values


def _split(published: str, data: Mapping[str, Any]) -> str:
    """Returns the split of the published score, and the split used here if it may be another."""
    here = str(data.get("split", "all"))
    same = {published, published.partition(",")[0], published.replace("val", "validation")}
    return published if here in same else f"{published} (here: {here})"
