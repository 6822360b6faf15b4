"""Scores as rows: measured with its interval, published, and the difference."""

import collections
import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pgjax.errors import UserError
from pgjax.evaluation.main_score import MainScore, main_score
from pgjax.evaluation.runner import SCORES_FILE
from pgjax.evaluation.store import Records
from pgjax.metrics.statistics import Interval, confidence_interval

HEADER = (
    "checkpoint", "benchmark", "evaluation", "score", "measured", "95 %", "published",
    "difference", "published on",
)  # fmt: skip
_COUNTS = ("examples", "skipped", "dropped")


class Row(NamedTuple):
    """A score; measured and published in the unit in which it is published."""

    checkpoint: str
    benchmark: str
    evaluation: str
    score: str
    measured: float | None
    interval: Interval | None
    published: float | None
    split: str
    percent: bool

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of `HEADER`."""
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


def read_folder(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Reads a folder of `evaluate`.

    Returns:
      By evaluation, a dict with `scores`, `identity`, `about`, `records` and `main_score`.

    Raises:
      UserError: it is not such a folder.
    """
    try:
        scores = json.loads((folder / SCORES_FILE).read_text())
        found = {}
        for name in scores:
            what = json.loads((folder / f"{name}.json").read_text())
            if stored := what["about"].get("main_score"):
                main = MainScore(str(stored[0]), bool(stored[1]))
            else:  # a folder of pgjax before 0.2
                main = main_score(what["identity"]["kind"], what["identity"]["metric"])
            records = Records(folder / f"{name}.jsonl")
            found[name] = {
                **what, "scores": scores[name], "records": records, "main_score": main,
            }  # fmt: skip
        return found
    except (OSError, ValueError) as e:
        raise UserError(f"{folder} holds no finished evaluation ({e}).") from None


def folder_rows(
    folder: pathlib.Path,
    published: Mapping[str, Mapping[str, Any]],
    plain: Sequence[str],
    only: Sequence[str] | None = None,
) -> list[Row]:
    """A row for each score in a folder of `evaluate`, and for each published one.

    Args:
      folder: with `scores.json`.
      published: `{name: {split, scores}}`, as in `pgjax.benchmarks.published`.
      plain: scores that are not published in percent.
      only: evaluations; None for all.

    Raises:
      UserError: it is not such a folder.
    """
    rows = []
    for name, found in read_folder(folder).items():
        if only and name not in only:
            continue
        about = found["about"]
        checkpoint, benchmark = about.get("checkpoint", ""), about.get("benchmark", "")
        theirs = published.get(about["published"], {"split": "", "scores": {}})
        scores = found["scores"]
        values = _values(found["records"], found["identity"]["metric"].get("key", ""))
        percent = {_base(key) for key in theirs["scores"]} - set(plain)
        for key in dict.fromkeys([*scores, *theirs["scores"]]):
            if key in _COUNTS or key.startswith("_"):
                continue
            ours, its = scores.get(key), theirs["scores"].get(key, {}).get(about["res"])
            scale = 100.0 if _base(key) in percent else 1.0
            interval = None
            if ours is not None and key in values:
                interval = confidence_interval(values[key])
                if not math.isclose(interval.mean, ours, rel_tol=1e-6, abs_tol=1e-9):
                    interval = None  # a score that is no mean over questions, but over types
            rows.append(
                Row(
                    checkpoint,
                    benchmark,
                    name,
                    key,
                    None if ours is None else ours * scale,
                    interval and Interval(*(v * scale for v in interval)),
                    its,
                    "" if its is None else _split(theirs["split"], found["identity"]["data"]),
                    scale != 1,
                )
            )
    return rows


def _base(key: str) -> str:
    """A breakdown `acc/number` has the unit of `acc`."""
    return key.partition("/")[0]


def _values(records: Iterable[Mapping[str, Any]], category: str) -> dict[str, list[float]]:
    """Scores of single records by key, and by `KEY/category` where the metric takes them apart."""
    values = collections.defaultdict(list)
    for record in records:
        for key, value in record["scores"].items():
            values[key].append(value)
            if category in record:
                values[f"{key.removesuffix('_all')}/{record[category]}"].append(value)
    return values


def _split(published: str, data: Mapping[str, Any]) -> str:
    """On what the published score was taken, and on what this one, where that may be another."""
    here = data.get("split", "all")
    same = {published, published.partition(",")[0], published.replace("val", "validation")}
    return published if here in same else f"{published} (here: {here})"
