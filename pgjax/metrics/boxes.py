"""Intersection over union (IoU, Jaccard index) of boxes given as location tokens."""

import math
from collections.abc import Sequence

from pgjax.errors import DataError
from pgjax.registry import METRICS
from pgjax.text.locations import parse_boxes

RIGHT = 0.5  # A box is right if its IoU is at least this, as in PASCAL VOC and RefCOCO.


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Returns the IoU of two boxes (y0, x0, y1, x1) in one unit; it is 0 if neither has an area."""
    height = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    width = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - height * width
    return height * width / union if union > 0 else 0.0


def reference_boxes(meta: dict) -> list[list[float]]:
    """Returns the reference `boxes` [N, 4] of an example.

    Raises:
      DataError: there are none, or they are not lists of four finite numbers.
    """
    if "boxes" not in meta:
        raise DataError(f"A metric of boxes needs the key 'boxes', the example has {sorted(meta)}.")
    boxes = [[float(edge) for edge in box] for box in meta["boxes"]]
    if not all(len(box) == 4 and all(map(math.isfinite, box)) for box in boxes):
        raise DataError(f"The example's boxes are {boxes!s:.200}, expected y0, x0, y1, x1 of each.")
    return boxes


@METRICS.register("box_iou", main="acc")
def box_iou(prediction: str, meta: dict) -> dict[str, float]:
    """Scores the first box in an answer about a single object.

    Args:
      prediction: the decoded answer with location tokens.
      meta: holds `boxes` [N, 4], (y0, x0, y1, x1) in 0..1; the first one is the reference.

    Returns:
      `iou` in 0..1, which is 0 for an answer without a valid box, and `acc`, which is 1.0 if
      iou >= 0.5 (acc@0.5) and 0.0 otherwise.
    """
    predicted = parse_boxes(prediction)
    score = iou(predicted[0][:4], reference_boxes(meta)[0]) if predicted else 0.0
    return {"iou": score, "acc": float(score >= RIGHT)}


@METRICS.register("all_boxes_iou", main="acc")
def all_boxes_iou(prediction: str, meta: dict) -> dict[str, float]:
    """Scores all boxes in an answer about all objects of one kind, in any order.

    Predicted and reference boxes are paired greedily, in descending order of IoU.

    Args:
      prediction: the decoded answer with location tokens.
      meta: holds the reference `boxes` [N, 4], (y0, x0, y1, x1) in 0..1.

    Returns:
      `iou`, the sum of the pairs' IoU divided by the larger number of boxes, so that missing and
      invented boxes count as 0; and `acc`, which is 1.0 if the numbers of boxes agree and every
      pair has iou >= 0.5, and 0.0 otherwise.
    """
    predicted = [box[:4] for box in parse_boxes(prediction)]
    expected = reference_boxes(meta)
    most = max(len(predicted), len(expected))
    if most == 0:
        return {"iou": 1.0, "acc": 1.0}
    pairs = sorted(
        ((iou(p, e), i, j) for i, p in enumerate(predicted) for j, e in enumerate(expected)),
        reverse=True,
    )
    scores: list[float] = []
    used_i: set[int] = set()
    used_j: set[int] = set()
    for score, i, j in pairs:
        if i not in used_i and j not in used_j:
            used_i.add(i)
            used_j.add(j)
            scores.append(score)
    right = sum(score >= RIGHT for score in scores) == most
    return {"iou": sum(scores) / most, "acc": float(right)}
