"""Pages about evaluations: scores, plots, pictures of best, worst and random examples, comparison.

Pictures are read again from the data that the evaluation read.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from pgjax.benchmarks.published import PLAIN, PUBLISHED
from pgjax.console import table
from pgjax.data.sources import make_source
from pgjax.errors import UserError
from pgjax.evaluation.compare import HEADER as COMPARED
from pgjax.evaluation.compare import compare
from pgjax.evaluation.contact_sheet import draw_records
from pgjax.evaluation.example_selection import breakdown, choose
from pgjax.evaluation.page import Page, bars
from pgjax.evaluation.runner import SCORES_FILE
from pgjax.evaluation.score_table import HEADER, Row, folder_rows, read_folder
from pgjax.metrics.statistics import confidence_interval

MOST_GROUPS = 40


def find(folders: list[pathlib.Path]) -> list[pathlib.Path]:
    """All folders with finished evaluations, at or below these.

    Raises:
      UserError: there is none at or below one of them.
    """
    found = []
    for folder in folders:
        below = sorted(path.parent for path in folder.rglob(SCORES_FILE))
        if not below:
            raise UserError(
                f"{folder} holds no {SCORES_FILE}, nor does a folder below it; expected what "
                "pgjax evaluate wrote."
            )
        found += below
    return list(dict.fromkeys(found))


def overview(folders: list[pathlib.Path], by: list[str], cases: int) -> Page:
    """A page about all evaluations at or below some folders.

    Args:
      folders: what to look in.
      by: keys of the records to break scores down by, such as `question_type`.
      cases: number of best, of worst and of random examples to show, for every evaluation.

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
        for name, found in read_folder(folder).items():
            about = found["about"]
            page.heading(f"{about.get('benchmark', '')} · {name} · {about.get('checkpoint', '')}")
            page.text(f"{len(found['records']):,} questions, in {folder}")
            parts = [row for row in some if row.evaluation == name and "/" in row.score]
            if parts:
                page.figure("by category", bars([_bar(row, row.score) for row in parts]))
            for key in by:
                _add_breakdown(page, found, key)
            if cases:
                _add_cases(page, found, cases)
    return page


def _bar(row: Row, label: str) -> tuple:
    ends = row.interval[1:] if row.interval else None
    return label, row.measured, ends, row.published


def _add_breakdown(page: Page, found: Mapping[str, Any], key: str) -> None:
    groups = list(breakdown(found["records"], found["main_score"], key).items())[:MOST_GROUPS]
    rows, drawn = [], []
    for value, scores in groups:
        mean, *ends = confidence_interval(scores)
        rows.append((value, f"{len(scores):,}", f"{mean:.4f}", f"{ends[0]:.4f}–{ends[1]:.4f}"))
        drawn.append((value, mean, ends, None))
    if rows:
        page.figure(f"by {key}", bars(drawn))
        page.table((key, "questions", "score", "95 %"), rows)


def _add_cases(page: Page, found: Mapping[str, Any], cases: int) -> None:
    records, main = found["records"], found["main_score"]
    try:
        source = make_source(found["identity"]["data"])
    except UserError as e:
        page.text(f"No pictures: {e}")
        return
    for kind, numbers in choose(records, main, cases).items():
        if numbers:
            page.picture(kind, draw_records(source, [records[i] for i in numbers], main=main))


def compared(a: pathlib.Path, b: pathlib.Path, cases: int) -> tuple[str, Page]:
    """Two runs on the same questions, one beside the other.

    Args:
      a: folder of an evaluation of the first run.
      b: folder of the same evaluation of the second.
      cases: number of questions to show where A is better, and where B is.

    Returns:
      The table as text, and a page with the table and the questions.

    Raises:
      UserError: they have no question in common.
    """
    runs = [read_folder(folder) for folder in (a, b)]
    rows, differing = compare(*runs)
    page = Page("Two runs on the same questions")
    page.text(f"A: {a}")
    page.text(f"B: {b}")
    page.table(COMPARED, [row.cells() for row in rows])
    for name, pairs in differing.items():
        page.heading(f"{name}: {len(pairs):,} questions on which they differ")
        for kind, some in (("A is better", pairs[:cases]), ("B is better", pairs[::-1][:cases])):
            shown = [_both(runs, name, i, j) for i, j in some if _ahead(runs, name, i, j) == kind]
            if shown:
                page.table(("question", "A", "B", "expected"), shown)
    return f"A: {a}\nB: {b}\n" + table(COMPARED, [row.cells() for row in rows]), page


def _ahead(runs: list, name: str, i: int, j: int) -> str:
    gain = runs[0][name]["main_score"].gain
    ours, theirs = gain(runs[0][name]["records"][i]), gain(runs[1][name]["records"][j])
    return "A is better" if ours > theirs else "B is better"


def _both(runs: list, name: str, i: int, j: int) -> tuple[str, str, str, str]:
    x, y = runs[0][name]["records"][i], runs[1][name]["records"][j]
    expected = x.get("suffix") or " | ".join(dict.fromkeys(map(str, x.get("answers", ()))))
    return x.get("prefix", ""), x.get("prediction", ""), y.get("prediction", ""), expected
