"""Makes pages about finished evaluations, and about the comparison of two runs.

A page shows scores in tables with plots, and examples with the answers of every run. Images are
read again from the data that was evaluated.
"""

import collections
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pgjax.benchmarks.published import PLAIN, PUBLISHED
from pgjax.config.named import check_source
from pgjax.console import table
from pgjax.data.sources import Source, make_source
from pgjax.errors import UserError
from pgjax.evaluation.compare import HEADER as COMPARED
from pgjax.evaluation.compare import compare
from pgjax.evaluation.example_selection import breakdown, choose
from pgjax.evaluation.gallery import Card, Gallery, Question, read_question
from pgjax.evaluation.page import Cell, Page, Plot
from pgjax.evaluation.runner import SCORES_FILE
from pgjax.evaluation.score_table import HEADER, Row, folder_rows
from pgjax.evaluation.shown_record import picture_of
from pgjax.evaluation.store import Record
from pgjax.evaluation.stored_evaluation import StoredEvaluation, read_evaluations
from pgjax.metrics.statistics import confidence_interval

MOST_GROUPS = 40  # largest groups of a breakdown that a page shows
SIDE = 448  # pixels of the longer side of a picture


class _Run(NamedTuple):
    """One evaluation of one checkpoint."""

    folder: pathlib.Path
    name: str
    found: StoredEvaluation
    rows: list[Row]

    @property
    def of(self) -> tuple[str, str, str]:
        """What was evaluated: the benchmark, the evaluation and its data."""
        data = json.dumps(self.found.identity["data"], sort_keys=True)
        return self.found.about.get("benchmark", ""), self.name, data


def find(folders: list[pathlib.Path]) -> list[pathlib.Path]:
    """Finds all folders with finished evaluations, at or below the given ones.

    Raises:
      UserError: there is no finished evaluation at or below one of the given folders.
    """
    found = []
    for folder in folders:
        below = sorted(path.parent for path in folder.rglob(SCORES_FILE))
        if not below:
            raise UserError(
                f"Neither {folder} nor a folder below it holds a {SCORES_FILE}; expected a folder "
                "that pgjax evaluate has written."
            )
        found += below
    return list(dict.fromkeys(found))


def overview(folders: list[pathlib.Path], by: list[str], cases: int) -> Page:
    """Makes a page about all evaluations at or below some folders.

    Args:
      folders: the folders that are searched.
      by: keys of the records by which scores are broken down, such as `question_type`.
      cases: for each evaluation, how many examples of each kind are shown, see `choose`.

    Raises:
      UserError: a folder holds no finished evaluation.
    """
    page = Page("Evaluations")
    groups: dict[tuple, list[_Run]] = collections.defaultdict(list)
    for folder in find(folders):
        rows = folder_rows(folder, PUBLISHED, PLAIN)
        for name, found in read_evaluations(folder).items():
            run = _Run(folder, name, found, [row for row in rows if row.evaluation == name])
            groups[run.of].append(run)
    every = [row for _, runs in sorted(groups.items()) for row in _in_order(runs)]
    most = _ends_of_plots(every)
    page.text(
        "Each score with its 95 % interval by bootstrap over the questions. In a plot, the bar is "
        "the score, the line across it the interval, and the diamond the published score."
    )
    main = [row for row in every if "/" not in row.score]
    _add_scores(page, main, most, HEADER)
    for (benchmark, name, _), runs in sorted(groups.items()):
        page.section(" · ".join(filter(None, (benchmark, name))))
        _add_evaluation(page, runs, most, by, cases)
    return page


def _in_order(runs: Sequence[_Run]) -> list[Row]:
    """The rows of runs on the same data, those of the same score next to each other."""
    rows = [row for run in runs for row in run.rows]
    scores = list(dict.fromkeys(row.score for row in rows))
    return sorted(rows, key=lambda row: scores.index(row.score))


def _ends_of_plots(rows: Sequence[Row]) -> dict[tuple[str, bool], float]:
    """Where the plots of a score end: at 1, 100, or the largest number there is."""
    largest: dict[tuple[str, bool], float] = collections.defaultdict(float)
    for row in rows:
        numbers = (row.measured, row.published, *(row.interval or ())[1:])
        at_least = 100.0 if row.percent else 1.0
        key = _scale(row)
        largest[key] = max(at_least, largest[key], *(x for x in numbers if x is not None))
    return largest


def _scale(row: Row) -> tuple[str, bool]:
    return row.score.partition("/")[0], row.percent


def _add_scores(
    page: Page, rows: Sequence[Row], most: Mapping[tuple[str, bool], float], only: Sequence[str]
) -> None:
    """Adds the named columns of a table of scores, with plots, which losses do not have."""
    kept = [HEADER.index(name) for name in only]
    after = only.index("95 %") + 1  # where the plots stand
    cells: list[list[Cell]] = []
    for row in rows:
        ends = row.interval[1:] if row.interval else None
        drawn = not row.falls and (row.measured, row.published) != (None, None)
        plot = Plot(row.measured, ends, row.published, most[_scale(row)]) if drawn else None
        texts = row.cells()
        texts = [texts[i] for i in kept]
        cells.append([*texts[:after], plot, *texts[after:]])
    page.table([*only[:after], "", *only[after:]], cells)


def _add_evaluation(
    page: Page,
    runs: Sequence[_Run],
    most: Mapping[tuple[str, bool], float],
    by: Sequence[str],
    cases: int,
) -> None:
    names = _names(runs)
    for name, run in zip(names, runs, strict=True):
        count = len(run.found.records)
        examples = "1 example" if count == 1 else f"{count:,} examples"
        page.text(f"{name}: {examples}, stored in {run.folder}.")
    if parts := [row for row in _in_order(runs) if "/" in row.score]:
        page.heading("By category")
        columns = [name for name in HEADER if name not in ("benchmark", "evaluation")]
        _add_scores(page, parts, most, columns)
    for key in by:
        _add_breakdown(page, names, runs, key)
    if cases:
        main = runs[0].found.main_score
        records = [run.found.records for run in runs]
        chosen = choose(records, main, cases)
        at = [{record["index"]: i for i, record in enumerate(some)} for some in records]
        questions = [
            (i, read_question(kind, [
                (n, records[n][at[n][i]]) for n in range(len(runs)) if i in at[n]
            ], main))
            for kind, some in chosen.items() for i in some
        ]  # fmt: skip
        page.heading("Examples")
        _add_gallery(page, runs[0].found, names, questions)


def _names(runs: Sequence[_Run]) -> list[str]:
    """The checkpoints of some runs; with their folders where a checkpoint is there twice."""
    names = [run.found.about.get("checkpoint", "") for run in runs]
    return [
        f"{name} ({run.folder})" if names.count(name) > 1 else name or str(run.folder)
        for name, run in zip(names, runs, strict=True)
    ]


def _add_breakdown(page: Page, names: Sequence[str], runs: Sequence[_Run], key: str) -> None:
    rows: list[list[Cell]] = []
    for name, run in zip(names, runs, strict=True):
        main = run.found.main_score
        groups = list(breakdown(run.found.records, main, key).items())[:MOST_GROUPS]
        for value, scores in groups:
            mean, *ends = confidence_interval(scores)
            plot = None if main.lower_is_better else Plot(mean, ends, None, max(1.0, ends[1]))
            interval = f"{ends[0]:.4f}–{ends[1]:.4f}"
            rows.append([value, name, f"{len(scores):,}", f"{mean:.4f}", interval, plot])
    if rows:
        page.heading(f"By {key}")
        header = (key, "checkpoint", "examples", runs[0].found.main_score.key, "95 %", "")
        order = list(dict.fromkeys(row[0] for row in rows))
        page.table(header, sorted(rows, key=lambda row: order.index(row[0])))


def _add_gallery(
    page: Page,
    found: StoredEvaluation,
    names: Sequence[str],
    questions: Sequence[tuple[int, Question]],
) -> None:
    """Adds questions, each with the index of its example; those about one picture on one card."""
    source: Source | None = None
    try:
        source = make_source(check_source(found.identity["data"], "data"))
    except UserError as e:
        page.text(f"There are no pictures, because the data cannot be opened: {e}")
    cards: dict[str, Card] = {}
    for index, question in questions:
        picture = None
        if source is not None and 0 <= index < len(source):
            picture = picture_of(source[index]["image"], SIDE)
        key = str(index) if picture is None else hashlib.sha256(picture.tobytes()).hexdigest()
        cards.setdefault(key, Card(picture, [])).questions.append(question)
    page.gallery(Gallery(names, found.main_score.key, list(cards.values())))


def compared(a: pathlib.Path, b: pathlib.Path, cases: int) -> tuple[str, Page]:
    """Compares two runs on the same questions.

    Args:
      a: a folder of evaluations of the first run.
      b: a folder of the same evaluations of the second run.
      cases: how many questions are shown on which A is better, and on which B is.

    Returns:
      The table as text, and a page with the table and the questions.

    Raises:
      UserError: the runs have no question in common.
    """
    runs = read_evaluations(a), read_evaluations(b)
    rows, differing = compare(*runs)
    page = Page("Two runs on the same questions")
    page.text(f"A: {a}")
    page.text(f"B: {b}")
    page.table(COMPARED, [row.cells() for row in rows])
    for name, pairs in differing.items():
        ours, theirs = runs[0][name], runs[1][name]
        page.section(f"{name}: {len(pairs):,} questions on which they differ")
        questions = []
        for kind, some in (("A better", pairs[:cases]), ("B better", pairs[::-1][:cases])):
            for i, j in some:
                both = ours.records[i], theirs.records[j]
                if _better(ours, *both) == kind:
                    question = read_question(kind, list(enumerate(both)), ours.main_score)
                    questions.append((both[0]["index"], question))
        if questions:
            _add_gallery(page, ours, ("A", "B"), questions)
    return f"A: {a}\nB: {b}\n" + table(COMPARED, [row.cells() for row in rows]), page


def _better(found: StoredEvaluation, x: Record, y: Record) -> str:
    """Returns which run is better on a question; both records have a main score."""
    ours, theirs = found.main_score.gain(x), found.main_score.gain(y)
    return "A better" if ours is not None and theirs is not None and ours > theirs else "B better"
