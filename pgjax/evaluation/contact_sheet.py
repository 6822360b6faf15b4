"""Draws examples of an evaluation: their images, prompts, answers and boxes."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from pgjax.data.decode import as_rgb, decode_image
from pgjax.data.draw import SheetItem, contact_sheet
from pgjax.data.sources import Source
from pgjax.evaluation.main_score import MainScore
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
      main: the main score of the evaluation, which is written beside the prompt; an answer with at
        least 0.5 counts as right. None leaves it out.

    Returns:
      An RGB picture, see `pgjax.data.draw.contact_sheet`.
    """
    items = [_item(source, record, main) for record in records]
    scale = max(1, round(SIDE / max(items[0].image.shape[:2])))
    return contact_sheet(items, columns, scale)


def _item(source: Source, record: Mapping[str, Any], main: MainScore | None) -> SheetItem:
    image = picture_of(source[record["index"]]["image"])
    height, width = image.shape[:2]
    answers = dict.fromkeys(map(str, record.get("answers", ())))
    expected = record.get("suffix") or " | ".join(answers)
    answered = "prediction" in record
    answer = record["prediction"] if answered else expected
    boxes = parse_boxes(answer)
    score = None if main is None else main.of(record)
    shown, right = "", None
    if main is not None and score is not None:
        shown = f" [{main.key} {score:.2f}]"
        right = score >= 0.5 if answered and not main.lower_is_better else None
    return SheetItem(
        image=image,
        prompt=record.get("prefix", "") + shown,
        answer=answer,
        expected=expected if answered else None,
        boxes=[(b.y0 * height, b.x0 * width, b.y1 * height, b.x1 * width) for b in boxes],
        labels=[b.label for b in boxes],
        right=right,
    )


def picture_of(image: Any) -> np.ndarray:
    """Returns an example's image as uint8 [H, W, 3]; several images or frames stand side by side.

    Args:
      image: encoded bytes, uint8 [H, W, 3], frames [F, H, W, 3], or a list of these.
    """
    if isinstance(image, list | tuple):
        parts = [picture_of(each) for each in image]
    else:
        whole = decode_image(image) if isinstance(image, bytes) else as_rgb(np.asarray(image))
        parts = list(whole) if whole.ndim == 4 else [whole]
    if len(parts) > 1:
        height = min(part.shape[0] for part in parts)
        parts = [_to_height(part, height) for part in parts]
        parts = [np.concatenate(parts, axis=1)]
    picture = Image.fromarray(parts[0])
    picture.thumbnail((SIDE, SIDE))
    return np.asarray(picture)


def _to_height(image: np.ndarray, height: int) -> np.ndarray:
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    return np.asarray(Image.fromarray(image).resize((width, height)))
