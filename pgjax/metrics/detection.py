"""COCO mean average precision of detected objects, computed by pycocotools."""

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pgjax.errors import DataError, UserError
from pgjax.metrics.boxes import iou, reference_boxes
from pgjax.registry import METRICS
from pgjax.text.locations import BINS, count_locations, parse_boxes

_THRESHOLDS = range(50, 100, 5)  # of the IoU, in percent


@METRICS.register("mean_average_precision", main="mAP", corpus=True)
def mean_average_precision(records: Sequence[dict]) -> dict[str, float]:
    """Computes COCO average precision (Lin et al., arXiv:1405.0312), averaged over labels.

    Each record counts as an image of its own that holds what its prompt asks for, so that a record
    about `detect cat` says nothing about dogs. Labels must match exactly. At most 100 objects per
    image count, of any size: COCO's scores by size would need pixels, which boxes in 0..1 lack.
    Labels that are numbers count as their text.

    Args:
      records: one per answer. `objects` are the detected ones, each `{"label", "box", "score"}`
        with box (y0, x0, y1, x1) in 0..1; scores rank objects over all records. The reference is
        `boxes` [N, 4] in 0..1 with `labels` [N], or the objects written in the text `suffix`.

    Returns:
      `mAP` over the IoU thresholds 0.50, 0.55, …, 0.95, `AP50` and `AP75`, each in 0..1.

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
        [(str(x["label"]), x["box"], x["score"]) for x in r.get("objects", ())] for r in records
    ]
    labels = sorted({label for truth in truths for label, _ in truth})
    if not labels:
        raise DataError(
            "The metric mean_average_precision needs objects to find, but none of "
            f"{len(records)} references has any."
        )
    ids = {label: i for i, label in enumerate(labels, 1)}

    def entries(
        objects: Sequence[Sequence[tuple]], extra: Callable[[list[float]], dict[str, float]]
    ) -> Iterator[dict[str, Any]]:
        for i, each in enumerate(objects, 1):
            for label, box, *score in each:
                # A label without any reference has no average precision that it could lower.
                if label in ids:
                    yield {"image_id": i, "category_id": ids[label], **_xywh(box), **extra(score)}

    dataset: Any = {  # what `COCO` reads from a JSON file
        "images": [{"id": i + 1} for i in range(len(records))],
        "categories": [{"id": i, "name": label} for label, i in ids.items()],
        "annotations": [
            {"id": n, **entry}
            for n, entry in enumerate(entries(truths, lambda _: {"iscrowd": 0}), 1)
        ],
    }
    coco = COCO()
    coco.dataset = dataset
    guesses: Any = list(entries(found, lambda score: {"score": score[0]}))
    if not guesses:
        return {"mAP": 0.0, "AP50": 0.0, "AP75": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(guesses), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return dict(zip(("mAP", "AP50", "AP75"), map(float, judge.stats[:3]), strict=True))


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
    expected, found = _reference(meta), parse_boxes(prediction)
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


def _reference(record: dict) -> list[tuple[str, Sequence[float]]]:
    """Returns the label and box of each reference object."""
    if "boxes" in record and "labels" in record:
        return list(zip(map(str, record["labels"]), reference_boxes(record), strict=True))
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
    return [(box.label, box[:4]) for box in boxes]


def _xywh(box: Sequence[float]) -> dict[str, Any]:
    """Writes a box as COCO annotations do, in the unit of location tokens."""
    y0, x0, y1, x1 = (v * BINS for v in box)
    width, height = x1 - x0, y1 - y0
    return {"bbox": [x0, y0, width, height], "area": width * height}
