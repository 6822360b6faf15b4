"""Detection by the measure of the COCO challenge, computed by pycocotools."""

import contextlib
import io
from collections.abc import Sequence

from pgjax.errors import DataError, UserError
from pgjax.registry import METRICS
from pgjax.text.locations import BINS, parse_boxes


@METRICS.register("mean_average_precision", main="mAP", corpus=True)
def mean_average_precision(records: Sequence[dict]) -> dict[str, float]:
    """COCO average precision (Lin et al., arXiv:1405.0312), mean over labels.

    Each record is a picture of its own with what was asked for in it, so that a record about
    `detect cat` says nothing about dogs. Labels are compared as they are written. The measure is
    that of all areas, with at most 100 objects in a picture: IoU does not depend on the unit of
    the sides, areas do.

    Args:
      records: one per answer. `objects` is what was found, `{"label", "box", "score"}` with box
        (y0, x0, y1, x1) in 0..1, best score first in the ranking over all records; what is there
        is `boxes` and `labels`, or the objects in the text `suffix`.

    Returns:
      `mAP` over IoU 0.50:0.05:0.95, `AP50` and `AP75`, each in 0..1.

    Raises:
      UserError: pycocotools is not installed.
      DataError: a record without reference, or no object in any reference.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as e:
        raise UserError(
            "metric mean_average_precision needs pycocotools: pip install -e '.[metrics]'"
        ) from e

    truths = [_reference(record) for record in records]
    found = [[(x["label"], x["box"], x["score"]) for x in r.get("objects", ())] for r in records]
    labels = sorted({label for truth in truths for label, _ in truth})
    if not labels:
        raise DataError(f"mean_average_precision: none of {len(records)} references has an object")
    ids = {label: i for i, label in enumerate(labels, 1)}

    def entries(objects, extra):
        for i, each in enumerate(objects, 1):
            for label, box, *score in each:
                # A label that is nowhere to be found has no average precision to lower.
                if label in ids:
                    yield {"image_id": i, "category_id": ids[label], **_xywh(box), **extra(score)}

    coco = COCO()
    coco.dataset = {
        "images": [{"id": i + 1} for i in range(len(records))],
        "categories": [{"id": i, "name": label} for label, i in ids.items()],
        "annotations": [
            {"id": n, **entry}
            for n, entry in enumerate(entries(truths, lambda _: {"iscrowd": 0}), 1)
        ],
    }
    guesses = list(entries(found, lambda score: {"score": score[0]}))
    if not guesses:
        return {"mAP": 0.0, "AP50": 0.0, "AP75": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(guesses), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return dict(zip(("mAP", "AP50", "AP75"), map(float, judge.stats[:3]), strict=True))


def _reference(record: dict) -> list[tuple[str, Sequence[float]]]:
    if "boxes" in record and "labels" in record:
        return list(zip(record["labels"], record["boxes"], strict=True))
    if "suffix" not in record:
        raise DataError(
            "metric mean_average_precision expects 'boxes' and 'labels', or 'suffix'; the example "
            f"has {sorted(record)}"
        )
    return [(box.label, box[:4]) for box in parse_boxes(record["suffix"])]


def _xywh(box: Sequence[float]) -> dict:
    """As COCO writes boxes, in the unit of location tokens."""
    y0, x0, y1, x1 = (v * BINS for v in box)
    width, height = x1 - x0, y1 - y0
    return {"bbox": [x0, y0, width, height], "area": width * height}
