"""Scores as rows: measured with its interval, published, and the difference."""

import collections
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pgjax.errors import UserError
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

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of `HEADER`."""
        digits = 3 if max(self.measured or 0, self.published or 0) <= 1 else 2
        both = self.measured is not None and self.published is not None
        ends = self.interval and [f"{v:.{digits}f}" for v in self.interval[1:]]
        return (
            *self[:4],
            "" if self.measured is None else f"{self.measured:.{digits}f}",
            "–".join(ends or ()),
            "" if self.published is None else f"{self.published:.{digits}f}",
            f"{self.measured - self.published:+.{digits}f}" if both else "",
            self.split,
        )


def read_folder(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """What `evaluate` left in a folder: `{evaluation: {scores, identity, about, records}}`.

    Raises:
      UserError: it is not such a folder.
    """
    try:
        scores = json.loads((folder / SCORES_FILE).read_text())
        found = {}
        for name in scores:
            what = json.loads((folder / f"{name}.json").read_text())
            records = Records(folder / f"{name}.jsonl")
            found[name] = {**what, "scores": scores[name], "records": records}
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
      published: `{name: {split, scores}}`, as in `pgjax.recipes.published`.
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
        known = [about.get("checkpoint", ""), about.get("benchmark", ""), name]
        theirs = published.get(about["published"], {"split": "", "scores": {}})
        values = collections.defaultdict(list)
        for record in found["records"]:
            for key, value in record["scores"].items():
                values[key].append(value)
        for key in dict.fromkeys([*found["scores"], *theirs["scores"]]):
            if key in _COUNTS or key.startswith("_"):
                continue
            ours = found["scores"].get(key)
            its = theirs["scores"].get(key, {}).get(about["res"])
            base = key.partition("/")[0]  # a breakdown has the unit of its whole
            scale = 100.0 if {key, base} & theirs["scores"].keys() - set(plain) else 1.0
            interval = confidence_interval(values[key]) if key in values else None
            rows.append(
                Row(
                    *known,
                    key,
                    None if ours is None else ours * scale,
                    interval and Interval(*(v * scale for v in interval)),
                    its,
                    "" if its is None else theirs["split"],
                )
            )
    return rows
