"""Answers as HTML: readable text, and a list of objects in the colors in which they are drawn."""

import html
import math
import re

from pgjax.demo.answering import Result
from pgjax.demo.downloads import downloads
from pgjax.demo.questions import MOST_TOKENS
from pgjax.inference.detections import DetectedObject

_LOCATION = re.compile(r"(?:<loc\d{4}>){4}")
_TOKENS = re.compile(r"<(?:loc\d{4}|seg\d{3})>")


def head_html(checkpoint: str, about: str) -> str:
    """The heading of a checkpoint's answers."""
    return (
        f'<div class="pg-head"><b>{html.escape(checkpoint)}</b> '
        f"<span>{html.escape(about)}</span></div>"
    )


def answer_html(result: Result) -> str:
    """The answer: its text, or the objects with colors, labels, scores and places.

    Args:
      result: with the objects that are shown.
    """
    prompt = result.question.prompt
    asked = f"<code>{html.escape(prompt)}</code>" if prompt else "the prompt of its training"
    parts = [f'<div class="pg-asked">asked: {asked}</div>']
    if _LOCATION.search(result.text):
        parts.append(_objects_html(result))
    else:
        text = html.escape(_TOKENS.sub("", result.text).strip())
        if text or not result.state:
            parts.append(f'<div class="pg-text">{text or "(no answer)"}</div>')
    parts.append(f'<div class="pg-note">{html.escape(_note(result))}</div>')
    if result.found:
        links = "".join(
            f'<a class="pg-download" download="{html.escape(name)}" href="{url}">{label}</a>'
            for label, name, url in downloads(result)
        )
        parts.append(f'<div class="pg-downloads">{links}</div>')
    return "".join(parts)


def _objects_html(result: Result) -> str:
    if result.found is None:
        count = len(_LOCATION.findall(result.text))
        return f'<div class="pg-text">{count} found so far …</div>'
    if not result.found:
        return '<div class="pg-text">(no object scores so high)</div>'
    rows = "".join(
        _object_html(found, color, result.found.size)
        for found, color in zip(result.found, result.colors, strict=True)
    )
    return f'<ul class="pg-objects">{rows}</ul>'


def _object_html(found: DetectedObject, color: str, size: tuple[int, int]) -> str:
    y0, x0, y1, x1 = found.box
    place = f"x {x0:.0f}, y {y0:.0f}, {x1 - x0:.0f} × {y1 - y0:.0f} px"
    if found.mask is not None:
        place += f"; mask {found.mask.mean():.1%}"
    return (
        f'<li style="--pg-color: {color}"><i class="pg-swatch"></i>'
        f'<span class="pg-label">{html.escape(found.label)}</span>'
        f'<span class="pg-bar"><i style="width: {found.score:.0%}"></i></span>'
        f'<span class="pg-score">{found.score:.0%}</span>'
        f'<span class="pg-place">{place}</span></li>'
    )


def _note(result: Result) -> str:
    answer = result.answer
    if answer is None:
        return result.state
    parts = []
    if not result.found:
        parts.append(f"probability of this text {_percent(math.exp(answer.logprob))}")
    parts += [f"{len(answer.tokens)} tokens", f"{result.seconds:.1f} s"]
    if not answer.ended:
        most = len(answer.tokens)
        parts.append(f"cut off after {most} tokens, of which there may be up to {MOST_TOKENS}")
    if result.is_turned_away:
        parts.append(
            "the file has an EXIF orientation and was read as it is stored, as in training; an "
            "option below turns it"
        )
    return " · ".join(parts)


def _percent(value: float) -> str:
    return f"{value:.0%}" if value > 0.1 else f"{value:.2g}"
