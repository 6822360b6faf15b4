"""A picture of evaluated images with their answers and boxes drawn."""

import pathlib

import numpy as np

from pgjax.data.decode import as_rgb, decode_image
from pgjax.data.draw import SheetItem, contact_sheet
from pgjax.evaluation.evaluators import Evaluator, Record
from pgjax.text.locations import parse_boxes


def write_sheet(
    path: pathlib.Path, evaluator: Evaluator, records: list[Record], most: int = 16
) -> pathlib.Path:
    """Draws the first examples of an evaluation.

    Args:
      path: of the PNG.
      evaluator: that made the records; its source gives the images.
      records: with `index`, `prefix` and `prediction`.
      most: images at most.
    """
    items = []
    for record in records[:most]:
        image = evaluator.part.source[record["index"]]["image"]
        image = decode_image(image) if isinstance(image, bytes) else as_rgb(np.asarray(image))
        height, width = image.shape[:2]
        boxes = parse_boxes(record["prediction"])
        accuracy = record["scores"].get("acc")
        items.append(
            SheetItem(
                image=image,
                prompt=record.get("prefix", ""),
                answer=record["prediction"],
                expected=record.get("suffix"),
                boxes=[(b.y0 * height, b.x0 * width, b.y1 * height, b.x1 * width) for b in boxes],
                labels=[b.label for b in boxes],
                right=None if accuracy is None else accuracy >= 0.5,
            )
        )
    scale = max(1, round(224 / max(items[0].image.shape[:2])))
    contact_sheet(items, 4, scale).save(path)
    return path
