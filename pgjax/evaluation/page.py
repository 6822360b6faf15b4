"""Pages of headings, tables, plots and pictures, which are written as HTML or Markdown."""

import base64
import html
import io
import pathlib
from collections.abc import Sequence

from PIL import Image

from pgjax.console import table_in_markdown
from pgjax.errors import UserError

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; color: #101828;
  padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto; }
th, td { padding: .3em .8em; border-bottom: 1px solid #d0d5dd; text-align: left; }
figure { margin: 1.5em 0; } figcaption { color: #667085; } img, svg { max-width: 100%; }
"""
_BLUE, _INK, _SOFT, _RED = "#0082c8", "#101828", "#667085", "#b42318"


class Page:
    """A page to which headings, texts, tables, plots and pictures are added in order."""

    def __init__(self, title: str) -> None:
        """Makes an empty page."""
        self.title = title
        self._blocks: list[tuple] = []

    def heading(self, text: str) -> None:
        """Adds the heading of a section."""
        self._blocks.append(("heading", text))

    def text(self, text: str) -> None:
        """Adds a paragraph."""
        self._blocks.append(("text", text))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Adds a table of texts."""
        self._blocks.append(("table", header, rows))

    def figure(self, caption: str, svg: str) -> None:
        """Adds a drawing from `bars`."""
        self._blocks.append(("figure", caption, svg))

    def picture(self, caption: str, image: Image.Image) -> None:
        """Adds a picture."""
        self._blocks.append(("picture", caption, image))

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
        parts = [
            f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
            f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style></head><body>"
            f"<h1>{html.escape(self.title)}</h1>"
        ]
        for kind, *content in self._blocks:
            if kind == "heading":
                parts.append(f"<h2>{html.escape(content[0])}</h2>")
            elif kind == "text":
                parts.append(f"<p>{html.escape(content[0])}</p>")
            elif kind == "table":
                parts.append(_html_table(*content))
            else:
                caption, drawing = content
                if kind == "picture":
                    data = base64.b64encode(_jpeg(drawing)).decode()
                    alt = html.escape(caption, quote=True)
                    drawing = f'<img alt="{alt}" src="data:image/jpeg;base64,{data}">'
                caption = html.escape(caption)
                parts.append(f"<figure>{drawing}<figcaption>{caption}</figcaption></figure>")
        return "\n".join([*parts, "</body></html>\n"])

    def _markdown(self, path: pathlib.Path) -> str:
        folder = path.with_name(f"{path.stem}_files")
        parts = [f"# {self.title}"]
        for i, (kind, *content) in enumerate(self._blocks):
            if kind == "heading":
                parts.append(f"## {content[0]}")
            elif kind == "text":
                parts.append(content[0])
            elif kind == "table":
                parts.append(table_in_markdown(*content))
            else:
                caption, drawing = content
                folder.mkdir(exist_ok=True)
                file = folder / f"{i:03}.{'jpg' if kind == 'picture' else 'svg'}"
                file.write_bytes(_jpeg(drawing) if kind == "picture" else drawing.encode())
                parts.append(f"![{caption}]({folder.name}/{file.name})\n\n{caption}")
        return "\n\n".join(parts) + "\n"


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


Bar = tuple[str, float | None, Sequence[float] | None, float | None]


def bars(items: Sequence[Bar]) -> str:
    """Draws a bar with its 95 % interval for each score, and a diamond at the published score.

    Args:
      items: the label, the measured score, the ends of its interval and the published score of each
        bar; what is None is not drawn.

    Returns:
      The drawing as SVG.
    """
    numbers = [v for _, m, ends, p in items for v in (m, *(ends or ()), p) if v is not None]
    most = max([*numbers, 1e-9])
    left, width, step = 330, 560, 26

    def x(value: float) -> float:
        return round(left + width * max(value, 0.0) / most, 1)

    parts = []
    for i, (label, measured, ends, published) in enumerate(items):
        y = 8 + i * step
        parts.append(
            f'<text x="{left - 8}" y="{y + 13}" text-anchor="end" fill="{_INK}">'
            f"{html.escape(_shortened(label))}</text>"
        )
        if measured is not None:
            parts.append(
                f'<rect x="{left}" y="{y}" width="{x(measured) - left:.1f}" height="18" '
                f'fill="{_BLUE}" fill-opacity="0.75"><title>{measured:.4g}</title></rect>'
                f'<text x="{left + 4}" y="{y + 13}" fill="white">{measured:.4g}</text>'
            )
        if ends:
            a, b = map(x, ends)
            parts.append(
                f'<path d="M{a} {y + 9}H{b}M{a} {y + 5}v8M{b} {y + 5}v8" stroke="{_INK}" '
                f'fill="none"><title>95 %: {ends[0]:.4g} to {ends[1]:.4g}</title></path>'
            )
        if published is not None:
            at = x(published)
            parts.append(
                f'<path d="M{at} {y + 3}l6 6l-6 6l-6 -6z" fill="{_RED}">'
                f"<title>published: {published:.4g}</title></path>"
            )
    height = 16 + len(items) * step
    legend = "bar: measured, with its 95 % interval; diamond: published"
    parts.append(f'<text x="{left}" y="{height + 8}" fill="{_SOFT}" font-size="11">{legend}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {height + 14}" '
        f'width="{left + width + 20}" font-family="system-ui, sans-serif" font-size="13">'
        f"{''.join(parts)}</svg>"
    )


def _shortened(label: str) -> str:
    return label if len(label) <= 46 else f"…{label[-45:]}"
