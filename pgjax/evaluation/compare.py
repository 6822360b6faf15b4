"""Two runs on the same questions, pair by pair."""

import collections
from collections.abc import Mapping
from typing import Any, NamedTuple

from pgjax.errors import UserError
from pgjax.evaluation.example_selection import same_questions
from pgjax.metrics.statistics import Difference, paired_difference

HEADER = (
    "evaluation", "score", "questions", "A", "B", "A − B", "95 %", "p", "A higher", "B higher",
)  # fmt: skip


class Compared(NamedTuple):
    """A score of both runs over the questions that both have."""

    evaluation: str
    score: str
    questions: int
    a: float
    b: float
    difference: Difference

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of `HEADER`."""
        d = self.difference
        return (
            self.evaluation,
            self.score,
            f"{self.questions:,}",
            f"{self.a:.4f}",
            f"{self.b:.4f}",
            f"{d.mean:+.4f}",
            f"{d.low:+.4f}…{d.high:+.4f}",
            f"{d.p_value:.2g}",
            str(d.better),
            str(d.worse),
        )


def compare(
    a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Compared], dict[str, list[tuple[int, int]]]]:
    """Compares what `read_folder` gives of two runs.

    Returns:
      A row for every score that single questions have, and for every evaluation the numbers of the
      records on which the runs differ, (in a, in b): those on which a is better by most come first,
      those on which it is worse last.

    Raises:
      UserError: no evaluation or no question in common.
    """
    common = [name for name in a if name in b]
    if not common:
        raise UserError(f"The runs have no evaluation in common: {[*a]} and {[*b]}.")
    rows, differing = [], {}
    for name in common:
        ours, theirs = list(map(_slim, a[name]["records"])), list(map(_slim, b[name]["records"]))
        main, pairs = a[name]["main_score"], same_questions(ours, theirs)
        if not pairs:
            raise UserError(f"{name}: the runs have no question in common.")
        values = collections.defaultdict(lambda: ([], []))
        apart = []
        for i, j in pairs:
            x, y = ours[i]["scores"], theirs[j]["scores"]
            for key in x.keys() & y.keys():
                values[key][0].append(x[key])
                values[key][1].append(y[key])
            gains = main.gain(ours[i]), main.gain(theirs[j])
            if None not in gains and gains[0] != gains[1]:
                apart.append((gains[1] - gains[0], i, j))
        for key in sorted(key for key in values if not key.startswith("_")):
            xs, ys = values[key]
            means = sum(xs) / len(xs), sum(ys) / len(ys)
            rows.append(Compared(name, key, len(xs), *means, paired_difference(xs, ys)))
        differing[name] = [(i, j) for _, i, j in sorted(apart)]
    return rows, differing


def _slim(record: Mapping[str, Any]) -> dict[str, Any]:
    """What pairs and scores need, so that all of a set fit into memory."""
    keys = ("question_id", "image_id", "id", "index", "scores")
    return {key: record[key] for key in keys if key in record}
