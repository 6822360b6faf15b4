"""Pages of headings, tables and examples, which are written as HTML or Markdown."""

import html
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from pgjax.console import table_in_markdown
from pgjax.errors import UserError
from pgjax.evaluation.gallery import Gallery, drawn, jpeg
from pgjax.evaluation.page_assets import SCRIPT, STYLE

_NUMBER = re.compile(r"[+-]?[\d,]*\.?\d+(e[+-]?\d+)?([–…].*)?")


class Plot(NamedTuple):
    """A cell of a table that shows a score, its 95 % interval, and the published score.

    What is None is not drawn. The plot reaches from 0 to `most`.
    """

    measured: float | None
    ends: Sequence[float] | None
    published: float | None
    most: float

    def svg(self) -> str:
        """Draws a bar for the score, a line for its interval, a diamond for what is published."""

        def x(value: float) -> float:
            return round(200 * min(max(value, 0.0), self.most) / self.most, 1)

        parts, said = ['<rect class="track" y="6" width="200" height="4"/>'], []
        if self.measured is not None:
            parts.append(f'<rect class="bar" y="3" width="{x(self.measured)}" height="10"/>')
            said.append(f"measured {self.measured:.4g}")
        if self.ends:
            a, b = map(x, self.ends)
            parts.append(f'<path class="ends" d="M{a} 8H{b}M{a} 4v8M{b} 4v8"/>')
            said.append(f"95 % from {self.ends[0]:.4g} to {self.ends[1]:.4g}")
        if self.published is not None:
            parts.append(f'<path class="published" d="M{x(self.published)} 2l6 6l-6 6l-6 -6z"/>')
            said.append(f"published {self.published:.4g}")
        title = f"{', '.join(said)}; from 0 to {self.most:.4g}"
        return (
            f'<svg class="plot" viewBox="0 0 200 16" preserveAspectRatio="none" role="img">'
            f"<title>{title}</title>{''.join(parts)}</svg>"
        )


Cell = str | Plot | None


class Page:
    """A page to which headings, texts, tables and examples are added in order."""

    def __init__(self, title: str) -> None:
        """Makes an empty page."""
        self.title = title
        self._blocks: list[tuple] = []

    def section(self, text: str) -> None:
        """Begins a section, which is listed at the top of a page with several of them."""
        self._blocks.append(("section", text))

    def heading(self, text: str) -> None:
        """Adds a heading inside of a section."""
        self._blocks.append(("heading", text))

    def text(self, text: str) -> None:
        """Adds a paragraph."""
        self._blocks.append(("text", text))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Adds a table; columns without any content are left out, and so are plots in Markdown."""
        kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
        names = [header[i] for i in kept]
        self._blocks.append(("table", names, [[row[i] for i in kept] for row in rows]))

    def gallery(self, gallery: Gallery) -> None:
        """Adds examples."""
        self._blocks.append(("gallery", gallery))

    def write(self, path: pathlib.Path) -> None:
        """Writes one `.html` file, or a `.md` file with its pictures in the folder STEM_files.

        Raises:
          UserError: the path has another suffix.
        """
        forms = {".html": self._html, ".md": self._markdown}
        if path.suffix not in forms:
            raise UserError(f"--out is {path}, expected a path that ends in .html or .md.")
        path.parent.mkdir(parents=True, exist_ok=True)
        text = forms[path.suffix](path)
        part = path.with_name(path.name + ".part")
        part.write_text(text)
        part.replace(path)

    def _html(self, path: pathlib.Path) -> str:
        title = html.escape(self.title)
        parts = [
            f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>"
        ]
        sections = [content[0] for kind, *content in self._blocks if kind == "section"]
        if len(sections) > 1:
            links = (
                f'<a href="#{i}">{html.escape(name)}</a>' for i, name in enumerate(sections, 1)
            )
            parts.append(f"<nav>{''.join(links)}</nav>")
        number = 0
        for kind, *content in self._blocks:
            if kind == "section":
                number += 1
                parts.append(f'<h2 id="{number}">{html.escape(content[0])}</h2>')
            elif kind == "heading":
                parts.append(f"<h3>{html.escape(content[0])}</h3>")
            elif kind == "text":
                parts.append(f"<p>{html.escape(content[0])}</p>")
            elif kind == "table":
                parts.append(_html_table(*content))
            else:
                parts.append(content[0].html())
        return "\n".join([*parts, f"<script>{SCRIPT}</script></body></html>\n"])

    def _markdown(self, path: pathlib.Path) -> str:
        folder = path.with_name(f"{path.stem}_files")
        parts = [f"# {self.title}"]
        pictures = 0
        for kind, *content in self._blocks:
            if kind == "section":
                parts.append(f"## {content[0]}")
            elif kind == "heading":
                parts.append(f"### {content[0]}")
            elif kind == "text":
                parts.append(content[0])
            elif kind == "table":
                parts.append(_markdown_table(*content))
            else:
                for card in content[0].cards:
                    if (picture := drawn(card)) is not None:
                        folder.mkdir(exist_ok=True)
                        pictures += 1
                        file = folder / f"{pictures:03}.jpg"
                        file.write_bytes(jpeg(picture))
                        parts.append(f"![]({folder.name}/{file.name})")
                    parts.append(table_in_markdown(*content[0].table(card.questions)))
        return "\n\n".join(parts) + "\n"


def _html_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    columns = list(zip(*rows, strict=True))
    kinds = [_kind(column) for column in columns]
    head = "".join(
        f"<th{kind}>{html.escape(name)}</th>" for name, kind in zip(header, kinds, strict=True)
    )
    labels = [html.escape(name, quote=True) for name in header]
    body = "".join(
        f"<tr>{''.join(map(_html_cell, row, kinds, labels))}</tr>" for row in rows
    )  # fmt: skip
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def _html_cell(cell: Cell, kind: str, label: str) -> str:
    content = cell.svg() if isinstance(cell, Plot) else html.escape(cell or "")
    return f'<td{kind} data-label="{label}">{content}</td>'


def _kind(column: Sequence[Cell]) -> str:
    """The class of a column's cells: plots, numbers or texts."""
    if any(isinstance(cell, Plot) for cell in column):
        return ' class="plot"'
    found = [cell for cell in column if isinstance(cell, str) and cell]
    return ' class="number"' if found and all(map(_NUMBER.fullmatch, found)) else ""


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    kept = [i for i in range(len(header)) if not any(isinstance(row[i], Plot) for row in rows)]
    texts = [[str(row[i] or "") for i in kept] for row in rows]
    return table_in_markdown([header[i] for i in kept], texts)
