"""Metrics: plain functions of text, in two forms.

Per example, `metric(prediction: str, meta: dict) -> dict[str, float]`: `meta` holds what the
reference needs (`suffix` or `answers`, `boxes`, `task`, …); the runner averages every key over the
examples that have it (`aggregate.Mean`), so a metric may return `acc/number` for some examples
only, and nothing for an unlabelled one.

Per corpus, `metric(predictions: list[str], metas: list[dict]) -> dict[str, float]`: for scores that
are no mean over examples (CIDEr, mAP). The runner gathers all examples and calls it once.

A new per-example metric is one function and one line of `METRICS`.
"""

import functools
import inspect
from collections.abc import Callable

from pgjax.errors import UserError
from pgjax.metrics.boxes import all_boxes_iou, box_iou
from pgjax.metrics.by_task import by_task
from pgjax.metrics.exact_match import exact_match
from pgjax.metrics.vqa import vqa_accuracy

Metric = Callable[[str, dict], dict[str, float]]

METRICS: dict[str, Metric] = {
    "all_boxes_iou": all_boxes_iou,
    "box_iou": box_iou,
    "by_task": by_task,
    "exact_match": exact_match,
    "vqa_accuracy": vqa_accuracy,
}


def get_metric(name: str, **kwargs) -> Metric:
    """Looks up a per-example metric and binds its options.

    Args:
      name: a key of `METRICS`.
      **kwargs: the metric's keyword arguments.

    Returns:
      `(prediction, meta) -> {name: float}`; picklable.

    Raises:
      UserError: an unknown metric or option; the message lists the choices.
    """
    if name not in METRICS:
        raise UserError(f"Unknown metric '{name}', expected one of {', '.join(METRICS)}.")
    metric = METRICS[name]
    parameters = inspect.signature(metric).parameters.values()
    options = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for option in kwargs:
        if option not in options:
            raise UserError(
                f"Metric '{name}' has no option '{option}', expected "
                f"{'one of ' + ', '.join(options) if options else 'none'}."
            )
    return functools.partial(metric, **kwargs)
