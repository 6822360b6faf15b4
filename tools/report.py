"""One page about many evaluations: scores, plots, and pictures of best, worst and random cases.

    python tools/report.py evaluations --out report.html
    python tools/report.py evaluations --by question_type --out report.md
    python tools/report.py evaluations/a/vqav2 evaluations/b/vqav2 --compare

Folders are those that `python -m pgjax.evaluate` fills, or have such folders below them. The
pictures are read again from the data that the evaluation read. `--compare` puts two runs beside
each other question by question, on the screen and, with --out, on a page.
"""

import argparse
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from report_page import Page, bars

from pgjax.console import table
from pgjax.data.sources import make_source
from pgjax.errors import UserError
from pgjax.evaluation.compare import HEADER as COMPARED
from pgjax.evaluation.compare import compare
from pgjax.evaluation.contact_sheet import make_sheet
from pgjax.evaluation.example_selection import breakdown, choose
from pgjax.evaluation.runner import SCORES_FILE
from pgjax.evaluation.score_table import HEADER, Row, folder_rows, read_folder
from pgjax.metrics.statistics import confidence_interval
from pgjax.published import PLAIN, PUBLISHED

MOST_GROUPS = 40


def find(folders: list[pathlib.Path]) -> list[pathlib.Path]:
    """All folders with finished evaluations, at or below these.

    Raises:
      UserError: none in one of them.
    """
    found = []
    for folder in folders:
        below = sorted(path.parent for path in folder.rglob(SCORES_FILE))
        if not below:
            raise UserError(f"{folder} has no {SCORES_FILE}, nor has a folder below it.")
        found += below
    return list(dict.fromkeys(found))


def report(folders: list[pathlib.Path], by: list[str], cases: int) -> Page:
    """The page about all evaluations in some folders.

    Args:
      folders: to look in.
      by: keys of records to break scores down by.
      cases: pictures of each kind, for every evaluation.
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
            page.picture(kind, make_sheet(source, [records[i] for i in numbers], main=main))


def compared(a: pathlib.Path, b: pathlib.Path, cases: int) -> tuple[str, Page]:
    """Two runs on the same questions: the table for the screen, and a page."""
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


def main() -> None:
    """Reads the arguments and writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=pathlib.Path, nargs="+", metavar="DIR")
    parser.add_argument("--out", type=pathlib.Path, help=".html, or .md with pictures beside it")
    parser.add_argument("--by", action="append", default=[], help="break down by a record's key")
    parser.add_argument("--cases", type=int, default=8, help="pictures of each kind; 0 for none")
    parser.add_argument("--compare", action="store_true", help="two runs, question by question")
    args = parser.parse_args()
    try:
        if args.compare:
            if len(args.folders) != 2:
                raise UserError(f"--compare takes two folders, got {len(args.folders)}.")
            text, page = compared(*args.folders, args.cases)
            print(text)
        else:
            args.out = args.out or pathlib.Path("report.html")
            page = report(args.folders, args.by, args.cases)
        if args.out:
            page.write(args.out)
            print(f"{args.out}")
    except UserError as e:
        sys.exit(f"error: {e}")


if __name__ == "__main__":
    main()
