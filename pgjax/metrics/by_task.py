"""Scores a mixture of tasks, each example by the metric of its task."""

from pgjax.errors import DataError
from pgjax.metrics.boxes import all_boxes_iou, box_iou
from pgjax.metrics.exact_match import exact_match
from pgjax.registry import METRICS

# All other tasks are scored by exact match.
TASK_METRICS = {"detect": box_iou, "detect_all": all_boxes_iou}


@METRICS.register("by_task", main="acc")
def by_task(prediction: str, meta: dict) -> dict[str, float]:
    """Scores an example by the metric of its task.

    Args:
      prediction: the decoded answer.
      meta: holds `task` and what the metric of that task needs.

    Returns:
      Each score of the task's metric as `<score>/<task>`, such as `acc/count` or `iou/detect`, and
      the metric's `acc` as `acc` as well, so that its mean goes over all tasks.

    Raises:
      DataError: the example has no `task`.
    """
    if "task" not in meta:
        raise DataError(
            f"The metric by_task needs the key 'task', but the example has {sorted(meta)}."
        )
    task = meta["task"]
    scores = TASK_METRICS.get(task, exact_match)(prediction, meta)
    named = {f"{key}/{task}": value for key, value in scores.items()}
    return named | ({"acc": scores["acc"]} if scores else {})
