"""Draws examples of an evaluation: their images, prompts, answers and boxes."""

from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image

from pgjax.data.draw import SheetItem, contact_sheet
from pgjax.data.sources import Source
from pgjax.evaluation.main_score import MainScore
from pgjax.evaluation.shown_record import picture_of, shown_record
from pgjax.text.locations import parse_boxes

SIDE = 224  # pixels of the longer side of an image; small images are enlarged by whole numbers


def draw_records(
    source: Source,
    records: Iterable[dict[str, Any]],
    columns: int = 4,
    main: MainScore | None = None,
) -> Image.Image:
    """Draws records of an evaluation as a contact sheet.

    Args:
      source: the data source, from which the images are read again.
      records: at least one record, with the `index` of its example, its `scores`, and any of
        `prefix`, `prediction`, `suffix` and `answers`.
      columns: the number of columns.
      main: the main score of the evaluation, which is written beside the prompt; None leaves it
        out.

    Returns:
      An RGB picture, see `pgjax.data.draw.contact_sheet`.
    """
    items = [_item(source, record, main) for record in records]
    scale = max(1, round(SIDE / max(items[0].image.shape[:2])))
    return contact_sheet(items, columns, scale)


def _item(source: Source, record: Mapping[str, Any], main: MainScore | None) -> SheetItem:
    image = picture_of(source[record["index"]]["image"], SIDE)
    height, width = image.shape[:2]
    shown = shown_record(record, main)
    answer = shown.expected if shown.answer is None else shown.answer
    boxes = parse_boxes(answer)
    score = "" if main is None or shown.score is None else f" [{main.key} {shown.score:.2f}]"
    return SheetItem(
        image=image,
        prompt=shown.prompt + score,
        answer=answer,
        expected=None if shown.answer is None else shown.expected,
        boxes=[(b.y0 * height, b.x0 * width, b.y1 * height, b.x1 * width) for b in boxes],
        labels=[b.label for b in boxes],
        right=shown.right,
    )
