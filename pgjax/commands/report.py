"""`pgjax report`."""

import pathlib
from collections.abc import Sequence

from pgjax.commands.command import Command
from pgjax.errors import UsageError


class Report(Command):
    """Writes a page about evaluations: scores, plots, breakdowns and examples.

    Examples are those on which checkpoints differ, the worst, the best and random ones. The page is
    one file that loads nothing. DIR are folders that `pgjax evaluate` wrote, or that have such
    folders below them. With --compare, two of them are compared question by question, on the screen
    and, with --out, on a page.
    """

    name = "report"
    arguments = "DIR…"
    example = "pgjax report evaluations --by question_type --out report.html"

    def __init__(self, argv: Sequence[str]):
        """Defines the flags."""
        super().__init__(argv)
        self._out = self.text(
            "out", None,
            "The page, a .html file, or .md with pictures beside it; left out: report.html, or "
            "none with --compare.",
        )  # fmt: skip
        self._by = self.repeated(
            "by", "A key of the records to break scores down by; may be given several times."
        )
        self._cases = self.integer("cases", 8, "Examples of each kind to show; 0: none.", 0)
        self._compare = self.boolean("compare", False, "Compare two evaluations with each other.")

    def run(self) -> None:
        """Writes the page."""
        folders = [pathlib.Path(folder).expanduser() for folder in self.positional]
        out = self._out.value
        if self._compare.value and len(folders) != 2:
            raise UsageError(f"--compare takes two folders, got {len(folders)}.")
        from pgjax.evaluation.overview import compared, overview

        if self._compare.value:
            text, page = compared(folders[0], folders[1], self._cases.value)
            print(text)
        else:
            page = overview(folders, self._by.value, self._cases.value)
            out = out or "report.html"
        if out:
            page.write(pathlib.Path(out).expanduser())
            print(out)
