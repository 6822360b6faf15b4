"""Compares two runs question by question, on the questions that both have answered."""

from collections.abc import Mapping
from typing import NamedTuple

from pgjax.errors import UserError
from pgjax.evaluation.example_selection import same_questions
from pgjax.evaluation.main_score import MainScore
from pgjax.evaluation.store import Record
from pgjax.evaluation.stored_evaluation import StoredEvaluation
from pgjax.metrics.statistics import Difference, paired_difference

HEADER = (
    "evaluation", "score", "questions", "A", "B", "A − B", "95 %", "p", "A higher", "B higher",
)  # fmt: skip


class Compared(NamedTuple):
    """A score of two runs, each the mean over the questions that both have answered."""

    evaluation: str
    score: str
    questions: int
    a: float
    b: float
    difference: Difference

    def cells(self) -> tuple[str, ...]:
        """Returns the row as text, in the order of `HEADER`."""
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
    a: Mapping[str, StoredEvaluation], b: Mapping[str, StoredEvaluation]
) -> tuple[list[Compared], dict[str, list[tuple[int, int]]]]:
    """Compares the evaluations of two runs.

    Args:
      a: the evaluations of the first run by name, from `read_evaluations`.
      b: the evaluations of the second run.

    Returns:
      A row for every score that single questions have. And for every evaluation, the positions (in
      a, in b) of the records on which the runs differ, from those on which a is better by most to
      those on which b is better by most.

    Raises:
      UserError: the runs have no evaluation in common, or no question of one.
    """
    common = [name for name in a if name in b]
    if not common:
        raise UserError(f"The runs have no evaluation in common: {[*a]} and {[*b]}.")
    rows: list[Compared] = []
    differing: dict[str, list[tuple[int, int]]] = {}
    for name in common:
        ours, theirs = list(map(_slim, a[name].records)), list(map(_slim, b[name].records))
        pairs = same_questions(ours, theirs)
        if not pairs:
            raise UserError(f"The runs have no question of {name} in common.")
        rows += _compare_scores(name, ours, theirs, pairs)
        differing[name] = _differing(a[name].main_score, ours, theirs, pairs)
    return rows, differing


def _compare_scores(
    name: str, ours: list[Record], theirs: list[Record], pairs: list[tuple[int, int]]
) -> list[Compared]:
    """Compares the scores of an evaluation, over pairs of positions in both runs' records."""
    values: dict[str, tuple[list[float], list[float]]] = {}
    for i, j in pairs:
        x, y = ours[i]["scores"], theirs[j]["scores"]
        for key in x.keys() & y.keys():
            xs, ys = values.setdefault(key, ([], []))
            xs.append(x[key])
            ys.append(y[key])
    rows = []
    for key in sorted(key for key in values if not key.startswith("_")):
        xs, ys = values[key]
        means = sum(xs) / len(xs), sum(ys) / len(ys)
        rows.append(Compared(name, key, len(xs), *means, paired_difference(xs, ys)))
    return rows


def _differing(
    main: MainScore, ours: list[Record], theirs: list[Record], pairs: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Returns the pairs with different main scores, those on which our gain is largest first."""
    apart = []
    for i, j in pairs:
        a, b = main.gain(ours[i]), main.gain(theirs[j])
        if a is not None and b is not None and a != b:
            apart.append((b - a, i, j))
    return [(i, j) for _, i, j in sorted(apart)]


def _slim(record: Record) -> Record:
    """Returns what a comparison needs of a record, so that all of an evaluation fit into memory."""
    keys = ("question_id", "image_id", "id", "index", "scores")
    return {key: record[key] for key in keys if key in record}
