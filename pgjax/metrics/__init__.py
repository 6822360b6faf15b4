"""Metrics: plain functions of text, in two forms.

Per example, `metric(prediction: str, meta: dict) -> dict[str, float]`: `meta` holds what the
reference needs (`suffix` or `answers`, `boxes`, `task`, …); the runner averages every key over the
examples that have it (`aggregate.Mean`), so a metric may return `acc/number` for some examples
only, and nothing for an unlabelled one.

Per corpus, `metric(records: list[dict]) -> dict[str, float]`: for scores that are no mean over
examples (CIDEr, mAP). A record is a `meta` with the `prediction`, and the `objects` found in it.
The evaluator gathers all examples and calls it once. What it can say about a single record, such
as its CIDEr, it adds to the record's `scores`.

A new metric is one function and one line of `METRICS` or `CORPUS_METRICS`.
"""

import functools
import inspect
from collections.abc import Callable

from pgjax.errors import UserError
from pgjax.metrics.anls import anls
from pgjax.metrics.boxes import all_boxes_iou, box_iou
from pgjax.metrics.by_task import by_task
from pgjax.metrics.by_type import accuracy_by_type
from pgjax.metrics.captions import cider, coco_caption
from pgjax.metrics.choices import mmvp, multiple_choice, pope, science_qa
from pgjax.metrics.counting import counting, tallyqa
from pgjax.metrics.detection import mean_average_precision
from pgjax.metrics.exact_match import exact_match
from pgjax.metrics.relaxed import relaxed_accuracy
from pgjax.metrics.segmentation import segmentation
from pgjax.metrics.vqa import vqa_accuracy

Metric = Callable[[str, dict], dict[str, float]]
CorpusMetric = Callable[[list[dict]], dict[str, float]]

METRICS: dict[str, Metric] = {
    "all_boxes_iou": all_boxes_iou,
    "anls": anls,
    "box_iou": box_iou,
    "by_task": by_task,
    "counting": counting,
    "exact_match": exact_match,
    "multiple_choice": multiple_choice,
    "relaxed_accuracy": relaxed_accuracy,
    "science_qa": science_qa,
    "segmentation": segmentation,
    "tallyqa": tallyqa,
    "vqa_accuracy": vqa_accuracy,
}
CORPUS_METRICS: dict[str, CorpusMetric] = {
    "accuracy_by_type": accuracy_by_type,
    "cider": cider,
    "coco_caption": coco_caption,
    "mean_average_precision": mean_average_precision,
    "mmvp": mmvp,
    "pope": pope,
}
# Metrics with an option `draw`: the evaluator gives them what turns the codes of masks into pixels.
DRAWS_MASKS = frozenset({"segmentation"})


def get_metric(name: str, **kwargs) -> Metric | CorpusMetric:
    """Looks up a metric and binds its options.

    Args:
      name: a key of `METRICS` or `CORPUS_METRICS`.
      **kwargs: the metric's keyword arguments.

    Returns:
      `(prediction, meta) -> {name: float}`, or per corpus `(records) -> {name: float}`; picklable.

    Raises:
      UserError: an unknown metric or option; the message lists the choices.
    """
    known = METRICS | CORPUS_METRICS
    if name not in known:
        raise UserError(f"Unknown metric '{name}', expected one of {', '.join(known)}.")
    metric = known[name]
    parameters = inspect.signature(metric).parameters.values()
    options = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for option in kwargs:
        if option not in options:
            raise UserError(
                f"Metric '{name}' has no option '{option}', expected "
                f"{'one of ' + ', '.join(options) if options else 'none'}."
            )
    return functools.partial(metric, **kwargs)
