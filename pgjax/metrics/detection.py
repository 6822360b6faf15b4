"""COCO mean average precision of detected objects, computed by pycocotools."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from pgjax.errors import DataError, UserError
from pgjax.metrics.boxes import iou, reference_boxes
from pgjax.registry import METRICS
from pgjax.text.locations import BINS, count_locations, parse_boxes

# A label, a box in 0..1, and what else a COCO annotation says: a score, an area, a crowd.
_Object = tuple[str, Sequence[float], dict[str, float]]
_THRESHOLDS = range(50, 100, 5)  # of the IoU, in percent


@METRICS.register("mean_average_precision", main="mAP", corpus=True)
def mean_average_precision(records: Sequence[dict]) -> dict[str, float]:
    """Computes COCO average precision (Lin et al., arXiv:1405.0312), averaged over labels.

    Each record counts as an image of its own that holds what its prompt asks for, so that a record
    about `detect cat` says nothing about dogs. Labels must match exactly; numbers count as their
    text. At most 100 objects of a label count in an image.

    Args:
      records: one per answer. `objects` are the detected ones, each `{"label", "box", "score"}`
        with box (y0, x0, y1, x1) in 0..1; scores rank objects over all records. The reference is
        `boxes` [N, 4] in 0..1 with `labels` [N], or the objects written in the text `suffix`. Also,
        where they are known: `crowd_boxes` with `crowd_labels`, in which objects count neither as
        right nor as wrong; `size`, the image's height and width in pixels; and `areas` [N], of the
        objects in pixels, instead of those of their boxes.

    Returns:
      `mAP` over the IoU thresholds 0.50, 0.55, …, 0.95, `AP50` and `AP75`, each in 0..1. If all
      records have their `size`, also `mAP/small`, `mAP/medium` and `mAP/large`, over the objects of
      less than 32 x 32 pixels, of up to 96 x 96, and of more, if there are any.

    Raises:
      UserError: pycocotools is not installed.
      DataError: a record has no reference, or one with location tokens that are no objects, or no
        reference has an object.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as e:
        raise UserError(
            "The metric mean_average_precision needs pycocotools: run pip install pycocotools."
        ) from e

    truths = [_reference(record) for record in records]
    found = [
        [(str(x["label"]), x["box"], {"score": x["score"]}) for x in r.get("objects", ())]
        for r in records
    ]
    labels = sorted({n for truth in truths for n, _, more in truth if "iscrowd" not in more})
    if not labels:
        raise DataError(
            "The metric mean_average_precision needs objects to find, but none of "
            f"{len(records)} references has any."
        )
    ids = {label: i for i, label in enumerate(labels, 1)}
    in_pixels = all("size" in record for record in records)
    sizes = [tuple(r["size"]) if in_pixels else (BINS, BINS) for r in records]

    def coco(objects: Sequence[Sequence[_Object]]) -> COCO:
        """What `COCO` reads from a file; a label without any reference could lower no score."""
        entries = (
            {"image_id": i, "category_id": ids[label], "iscrowd": 0, **_xywh(box, size), **extra}
            for i, (each, size) in enumerate(zip(objects, sizes, strict=True), 1)
            for label, box, extra in each
            if label in ids
        )
        made: Any = COCO()
        made.dataset = {
            "images": [{"id": i + 1} for i in range(len(records))],
            "categories": [{"id": i, "name": label} for label, i in ids.items()],
            "annotations": [{"id": n, **entry} for n, entry in enumerate(entries, 1)],
        }
        made.createIndex()
        return made

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        judge = COCOeval(coco(truths), coco(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    names = ("mAP", "AP50", "AP75", "mAP/small", "mAP/medium", "mAP/large")
    scores = dict(zip(names, map(float, judge.stats[: 6 if in_pixels else 3]), strict=False))
    return {name: score for name, score in scores.items() if score >= 0}


@METRICS.register("listed_objects", main="ap")
def listed_objects(prediction: str, meta: dict) -> dict[str, float]:
    """Scores the objects that an answer lists, with their labels, as one image of `mAP`.

    Args:
      prediction: the decoded answer with location tokens, whose first objects rank highest.
      meta: the reference, as for `mean_average_precision`.

    Returns:
      `ap` in 0..1, the average precision over all labels together: the sum of the precision at each
      object that is found, divided by the number of expected ones; averaged over the IoU thresholds
      0.50, 0.55, …, 0.95. A listed object finds the expected one of its label that it overlaps
      most, of those that none before it has found. Without expected objects, 1 for an answer
      without any, else 0.

    Raises:
      DataError: as for `mean_average_precision`.
    """
    expected = [(label, box) for label, box, x in _reference(meta) if not x.get("iscrowd")]
    found = parse_boxes(prediction)
    if not expected:
        return {"ap": float(not found)}
    overlaps = [[iou(x[:4], box) * (x.label == label) for label, box in expected] for x in found]
    total = 0.0
    for threshold in _THRESHOLDS:
        left, hits = set(range(len(expected))), 0
        for rank, row in enumerate(overlaps, 1):
            best = max(left, key=row.__getitem__, default=None)
            if best is not None and row[best] >= threshold / 100:
                left.remove(best)
                hits += 1
                total += hits / rank
    return {"ap": total / len(expected) / len(_THRESHOLDS)}


def _reference(record: dict) -> list[_Object]:
    """Returns the label and box of each reference object, and what else is known of it."""
    if "boxes" in record and "labels" in record:
        boxes, labels = reference_boxes(record), list(map(str, record["labels"]))
        areas = record.get("areas")
        extras = [{"area": float(v)} for v in areas] if areas is not None else [{}] * len(boxes)
        crowds = zip(
            map(str, record.get("crowd_labels", ())), record.get("crowd_boxes", ()), strict=True
        )
        return [
            *zip(labels, boxes, extras, strict=True),
            *((label, box, {"iscrowd": 1}) for label, box in crowds),
        ]
    if "suffix" not in record:
        raise DataError(
            "The metric mean_average_precision needs 'boxes' and 'labels', or 'suffix', but the "
            f"example has {sorted(record)}."
        )
    suffix = record["suffix"]
    boxes = parse_boxes(suffix)
    if (tokens := count_locations(suffix)) != 4 * len(boxes):
        raise DataError(
            f"The metric mean_average_precision finds {len(boxes)} objects and {tokens} location "
            f"tokens in the reference {suffix[:200]!r}, expected four tokens for each object."
        )
    return [(box.label, box[:4], {}) for box in boxes]


def _xywh(box: Sequence[float], size: tuple[float, float]) -> dict[str, Any]:
    """Writes a box as COCO annotations do, in the unit of the size (height, width)."""
    y0, x0, y1, x1 = (float(v) * s for v, s in zip(box, size * 2, strict=True))
    width, height = x1 - x0, y1 - y0
    return {"bbox": [x0, y0, width, height], "area": width * height}
