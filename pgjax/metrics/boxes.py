"""Intersection over union (Jaccard index) of boxes that a model names by location tokens."""

from collections.abc import Sequence

from pgjax.registry import METRICS
from pgjax.text.locations import parse_boxes

RIGHT = 0.5  # A box counts as found from this IoU on, as in PASCAL VOC and RefCOCO.


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes (y0, x0, y1, x1) in the same unit; 0 without area."""
    height = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    width = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - height * width
    return height * width / union if union > 0 else 0.0


@METRICS.register("box_iou", main="acc")
def box_iou(prediction: str, meta: dict) -> dict[str, float]:
    """Scores the first box of an answer about a single object.

    Args:
      prediction: decoded answer with location tokens.
      meta: `boxes` [N, 4], (y0, x0, y1, x1) in 0..1; the first is the reference.

    Returns:
      `iou` in 0..1, 0 for an answer without a valid box; `acc` 1.0 where iou >= 0.5 (acc@0.5).
    """
    predicted = parse_boxes(prediction)
    score = iou(predicted[0][:4], meta["boxes"][0]) if predicted else 0.0
    return {"iou": score, "acc": float(score >= RIGHT)}


@METRICS.register("all_boxes_iou", main="acc")
def all_boxes_iou(prediction: str, meta: dict) -> dict[str, float]:
    """Scores all boxes of an answer about all objects of a kind, in any order.

    Predicted and reference boxes are paired greedily, best IoU first.

    Args:
      prediction: decoded answer with location tokens.
      meta: `boxes` [N, 4], (y0, x0, y1, x1) in 0..1.

    Returns:
      `iou`: the sum over pairs divided by the larger number of boxes, so that missing and invented
      ones count as 0; `acc` 1.0 where the numbers agree and every pair has iou >= 0.5.
    """
    predicted = [box[:4] for box in parse_boxes(prediction)]
    expected = list(meta["boxes"])
    most = max(len(predicted), len(expected))
    if most == 0:
        return {"iou": 1.0, "acc": 1.0}
    pairs = sorted(
        ((iou(p, e), i, j) for i, p in enumerate(predicted) for j, e in enumerate(expected)),
        reverse=True,
    )
    scores, used_i, used_j = [], set(), set()
    for score, i, j in pairs:
        if i not in used_i and j not in used_j:
            used_i.add(i)
            used_j.add(j)
            scores.append(score)
    right = sum(score >= RIGHT for score in scores) == most
    return {"iou": sum(scores) / most, "acc": float(right)}
