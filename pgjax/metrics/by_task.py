"""A mixture of tasks scored example by example, each with its own metric."""

from pgjax.errors import DataError
from pgjax.metrics.boxes import all_boxes_iou, box_iou
from pgjax.metrics.exact_match import exact_match
from pgjax.registry import METRICS

# Tasks that are not scored by exact match.
TASK_METRICS = {"detect": box_iou, "detect_all": all_boxes_iou}


@METRICS.register("by_task", main="acc")
def by_task(prediction: str, meta: dict) -> dict[str, float]:
    """Scores an example by the metric of its task.

    Args:
      prediction: decoded answer.
      meta: `task`, and what that task's metric needs.

    Returns:
      Each score of the metric as `<score>/<task>` (`acc/count`, `acc/detect`, `iou/detect`), and
      `acc` over all tasks, for boxes IoU >= 0.5.

    Raises:
      DataError: the example has no `task`.
    """
    if "task" not in meta:
        raise DataError(f"Metric by_task expected the key 'task', got {sorted(meta)}.")
    task = meta["task"]
    scores = TASK_METRICS.get(task, exact_match)(prediction, meta)
    named = {f"{key}/{task}": value for key, value in scores.items()}
    return named | ({"acc": scores["acc"]} if scores else {})
