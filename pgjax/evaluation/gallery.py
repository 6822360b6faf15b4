"""Examples as cards: each picture once, with every question about it and every run's answer."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pgjax.data.draw import PALETTE, draw_boxes
from pgjax.evaluation.main_score import MainScore
from pgjax.evaluation.shown_record import ShownRecord, shown_record
from pgjax.text.locations import Box, parse_boxes, shortened

EXPECTED = "#667085"  # the colour of expected boxes
_MARKS = {True: "right", False: "wrong", None: ""}


class Question(NamedTuple):
    """An example, as each run has answered it.

    Attributes:
      group: why it is shown, such as `worst`.
      runs: the number of each run that has answered, with what is shown of its record.
    """

    group: str
    runs: Sequence[tuple[int, ShownRecord]]

    @property
    def first(self) -> ShownRecord:
        """What all runs have in common: the prompt and the expected answer."""
        return self.runs[0][1]

    def boxes(self) -> list[tuple[int | None, Box]]:
        """Returns the boxes of all answers with the number of the run; None: expected ones."""
        texts: list[tuple[int | None, str]] = [(None, self.first.expected)]
        texts += [(run, shown.answer or "") for run, shown in self.runs]
        return [(run, box) for run, text in texts for box in parse_boxes(text)]


class Card(NamedTuple):
    """A picture, uint8 [H, W, 3] or None where there is none, and the questions about it."""

    picture: np.ndarray | None
    questions: list[Question]


class Gallery(NamedTuple):
    """Cards, with the names of the runs, from whose number their colour comes."""

    names: Sequence[str]
    score: str
    cards: Sequence[Card]

    def html(self) -> str:
        """Returns the cards as HTML; pictures are data URLs, boxes lie above them."""
        cards = "".join(self._card(card) for card in self.cards)
        return f'<div class="gallery">{cards}</div>'

    def _card(self, card: Card) -> str:
        questions = "".join(self._question(question) for question in card.questions)
        if card.picture is None:
            return f'<article class="card">{questions}</article>'
        height, width = card.picture.shape[:2]
        boxes = "".join(
            _html_box(box, run) for question in card.questions for run, box in question.boxes()
        )
        data = base64.b64encode(jpeg(card.picture)).decode()
        alt = html.escape(card.questions[0].first.prompt or "example", quote=True)
        return (
            f'<article class="card"><div class="picture" style="--ratio:{width / height:.4f}">'
            f'<img alt="{alt}" loading="lazy" src="data:image/jpeg;base64,{data}">{boxes}</div>'
            f"{questions}</article>"
        )

    def _question(self, question: Question) -> str:
        expected = question.first.expected
        scores = [shown.score for _, shown in question.runs if shown.score is not None]
        marks = dict.fromkeys(_MARKS[shown.right] for _, shown in question.runs)
        tags = "|".join(filter(None, [question.group, *marks]))
        mean = f"{sum(scores) / len(scores):.6g}" if scores else ""
        prompt = html.escape(shortened(question.first.prompt))
        lines = [
            f'<p class="prompt"><span class="tag">{html.escape(question.group)}</span> {prompt}</p>'
        ]
        lines += [self._answer(run, shown) for run, shown in question.runs]
        if expected:
            lines.append(f'<p class="expected"><b>expected</b> {_text(expected)}</p>')
        return (
            f'<section data-tags="{html.escape(tags, quote=True)}" data-score="{mean}">'
            f"{''.join(lines)}</section>"
        )

    def _answer(self, run: int, shown: ShownRecord) -> str:
        name = html.escape(self.names[run])
        who = f'<b style="--run:{_color(run)}">{name}</b> ' if len(self.names) > 1 else ""
        text = "" if shown.answer is None else _text(shown.answer or "(no answer)")
        score = ""
        if shown.score is not None:
            score = f' <span class="score">{html.escape(self.score)} {shown.score:.3g}</span>'
        mark = _MARKS[shown.right]
        return f'<p class="answer {mark}" data-run="{run}">{who}<span>{text}</span>{score}</p>'

    def table(self, questions: Sequence[Question]) -> tuple[list[str], list[list[str]]]:
        """Returns the questions of a card as the header and the rows of a table."""
        header = ["", "question", *self.names, "expected"]
        rows = []
        for question in questions:
            given = {run: _in_cell(shown) for run, shown in question.runs}
            answers = [given.get(run, "") for run in range(len(self.names))]
            prompt, expected = question.first.prompt, question.first.expected
            rows.append([question.group, *map(shortened, (prompt, *answers, expected))])
        return header, rows


def drawn(card: Card) -> np.ndarray | None:
    """Returns a card's picture, uint8 [H, W, 3], with the boxes of all answers drawn into it."""
    if card.picture is None:
        return None
    height, width = card.picture.shape[:2]
    found = [each for question in card.questions for each in question.boxes()]
    edges = [(b.y0 * height, b.x0 * width, b.y1 * height, b.x1 * width) for _, b in found]
    colors = [_color(run) for run, _ in found]
    return draw_boxes(card.picture, edges, [box.label for _, box in found], colors)


def read_question(
    group: str, records: Sequence[tuple[int, Mapping[str, Any]]], main: MainScore
) -> Question:
    """Returns what is shown of an example, given the record of each run by the run's number."""
    return Question(group, [(run, shown_record(record, main)) for run, record in records])


def jpeg(picture: np.ndarray) -> bytes:
    """Encodes a picture, uint8 [H, W, 3]."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=85)
    return out.getvalue()


def _html_box(box: Box, run: int | None) -> str:
    edges = {"left": box.x0, "top": box.y0, "width": box.x1 - box.x0, "height": box.y1 - box.y0}
    style = ";".join(f"{key}:{100 * value:.2f}%" for key, value in edges.items())
    label = html.escape(box.label, quote=True)
    which = 'class="box expected"' if run is None else f'class="box" data-run="{run}"'
    tag = f"<b>{label}</b>" if run is not None and label else ""
    return f'<i {which} style="{style};--run:{_color(run)}" title="{label}">{tag}</i>'


def _color(run: int | None) -> str:
    return EXPECTED if run is None else PALETTE[(run + 1) % len(PALETTE)]


def _text(text: str) -> str:
    """A text with short locations; the text itself shows where the pointer rests."""
    short = shortened(text)
    title = "" if short == text else f' title="{html.escape(text, quote=True)}"'
    return f"<q{title}>{html.escape(short)}</q>"


def _in_cell(shown: ShownRecord) -> str:
    score = "" if shown.score is None else f" ({shown.score:.3g})"
    return (shown.answer or ("" if shown.answer is None else "(no answer)")) + score
