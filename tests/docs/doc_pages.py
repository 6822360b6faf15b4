"""The pages of the documentation, taken apart: blocks of code, commands, links and headings.

A comment on the line before a block says how it is checked, and does not show on the page:

    <!-- test: run -->     a block of commands is run, not only compared with the commands' flags
    <!-- test: slow -->    the block is run among the slow tests alone
    <!-- test: parse -->   a block of Python is compiled, not run

A block of Python without a comment is run; one with a `title="FILE"` is written to that file.
"""

import dataclasses
import pathlib
import re
import shlex
from collections.abc import Iterator

from conftest import ROOT

PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], key=lambda p: str(p.relative_to(ROOT))
)
_FENCE = re.compile(r"(?P<indent> *)(?P<ticks>```+)(?P<info>[^`]*)")
_MARK = re.compile(r" *<!-- test: (\w+) -->")


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code: its language, the file that it stands for, and how it is checked."""

    page: pathlib.Path
    line: int  # of its first line of code
    language: str
    title: str
    mark: str
    code: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: pathlib.Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    lines = page.read_text().splitlines()
    i = 0
    while i < len(lines):
        if not (fence := _FENCE.fullmatch(lines[i])):
            i += 1
            continue
        before = _MARK.fullmatch(lines[i - 1]) if i else None
        language, _, rest = fence["info"].strip().partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        indent, start = len(fence["indent"]), i + 1
        i = start
        while lines[i].strip() != fence["ticks"]:
            i += 1
        code = "\n".join(line[indent:] for line in lines[start:i]) + "\n"
        yield Block(
            page, start + 1, language, title[1] if title else "", before[1] if before else "", code
        )
        i += 1


def commands(code: str) -> Iterator[list[str]]:
    """The words of each simple command of a shell script, without assignments before it."""
    joined = re.sub(r"\\\n\s*", " ", code)
    for line in joined.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split, lexer.commenters = True, "#"
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set(";|&<>()"):
                words.append(word)
                continue
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words = words[1:]
            if words:
                yield words
            # What follows > or < is a file and not a command.
            words = ["cat"] if set(word) <= set("<>") else []


def links(page: pathlib.Path) -> Iterator[str]:
    """Targets of links and images outside of blocks of code."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    yield from re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))


def anchors(page: pathlib.Path) -> set[str]:
    """The ids that the headings of a page get."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}
