"""Makes pages about finished evaluations, and about the comparison of two runs.

A page shows scores as tables and plots, and pictures of the best, the worst and random examples.
Images are read again from the data that was evaluated.
"""

import pathlib

from pgjax.benchmarks.published import PLAIN, PUBLISHED
from pgjax.console import table
from pgjax.data.sources import make_source
from pgjax.errors import UserError
from pgjax.evaluation.compare import HEADER as COMPARED
from pgjax.evaluation.compare import compare
from pgjax.evaluation.contact_sheet import draw_records
from pgjax.evaluation.example_selection import breakdown, choose
from pgjax.evaluation.main_score import MainScore
from pgjax.evaluation.page import Bar, Page, bars
from pgjax.evaluation.runner import SCORES_FILE
from pgjax.evaluation.score_table import HEADER, Row, folder_rows
from pgjax.evaluation.store import Record
from pgjax.evaluation.stored_evaluation import StoredEvaluation, read_evaluations
from pgjax.metrics.statistics import confidence_interval

MOST_GROUPS = 40  # largest groups of a breakdown that a page shows


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
      cases: for each evaluation, how many of the best, the worst and of random examples are shown.

    Raises:
      UserError: a folder holds no finished evaluation.
    """
    page = Page("Evaluations")
    rows = {folder: folder_rows(folder, PUBLISHED, PLAIN) for folder in find(folders)}
    every = sorted((r for some in rows.values() for r in some), key=lambda r: r[1:4])
    page.table(HEADER, [row.cells() for row in every])
    for score in dict.fromkeys(row.score for row in every if "/" not in row.score):
        some = [row for row in every if row.score == score]
        page.figure(score, bars([_bar(row, f"{row.checkpoint} · {row.benchmark}") for row in some]))
    for folder, some in rows.items():
        for name, found in read_evaluations(folder).items():
            about = found.about
            page.heading(f"{about.get('benchmark', '')} · {name} · {about.get('checkpoint', '')}")
            page.text(f"{len(found.records):,} questions, stored in {folder}.")
            parts = [row for row in some if row.evaluation == name and "/" in row.score]
            if parts:
                page.figure("by category", bars([_bar(row, row.score) for row in parts]))
            for key in by:
                _add_breakdown(page, found, key)
            if cases:
                _add_cases(page, found, cases)
    return page


def _bar(row: Row, label: str) -> Bar:
    ends = row.interval[1:] if row.interval else None
    return label, row.measured, ends, row.published


def _add_breakdown(page: Page, found: StoredEvaluation, key: str) -> None:
    groups = list(breakdown(found.records, found.main_score, key).items())[:MOST_GROUPS]
    rows, drawn = [], []
    for value, scores in groups:
        mean, *ends = confidence_interval(scores)
        rows.append((value, f"{len(scores):,}", f"{mean:.4f}", f"{ends[0]:.4f}–{ends[1]:.4f}"))
        drawn.append((value, mean, ends, None))
    if rows:
        page.figure(f"by {key}", bars(drawn))
        page.table((key, "questions", "score", "95 %"), rows)


def _add_cases(page: Page, found: StoredEvaluation, cases: int) -> None:
    records, main = found.records, found.main_score
    try:
        source = make_source(found.identity["data"])
    except UserError as e:
        page.text(f"There are no pictures, because the data cannot be opened: {e}")
        return
    for kind, numbers in choose(records, main, cases).items():
        if numbers:
            page.picture(kind, draw_records(source, [records[i] for i in numbers], main=main))


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
        page.heading(f"{name}: {len(pairs):,} questions on which they differ")
        for kind, some in (("A is better", pairs[:cases]), ("B is better", pairs[::-1][:cases])):
            both = [(ours.records[i], theirs.records[j]) for i, j in some]
            shown = [_cells(x, y) for x, y in both if _better(ours.main_score, x, y) == kind]
            if shown:
                page.table(("question", "A", "B", "expected"), shown)
    return f"A: {a}\nB: {b}\n" + table(COMPARED, [row.cells() for row in rows]), page


def _better(main: MainScore, x: Record, y: Record) -> str:
    """Returns which run is better on a question; both records have a main score."""
    ours, theirs = main.gain(x), main.gain(y)
    a_is_better = ours is not None and theirs is not None and ours > theirs
    return "A is better" if a_is_better else "B is better"


def _cells(x: Record, y: Record) -> tuple[str, str, str, str]:
    """Returns the question, both answers and the expected one."""
    expected = x.get("suffix") or " | ".join(dict.fromkeys(map(str, x.get("answers", ()))))
    return x.get("prefix", ""), x.get("prediction", ""), y.get("prediction", ""), expected
