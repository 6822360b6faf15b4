"""Metrics: plain functions of text, in two forms.

Per example, `metric(prediction: str, meta: dict) -> dict[str, float]`: `meta` holds what the
reference needs (`suffix` or `answers`, `boxes`, `task`, …). Every key is averaged over the examples
that have it (`aggregate.Mean`), so a metric may return `acc/number` for some examples only, and
nothing for an example without a label.

Per corpus, `metric(records: list[dict]) -> dict[str, float]`: for scores that are no mean over
examples (CIDEr, mAP). A record is a `meta` with the `prediction`, and the `objects` found in it.
The evaluator gathers all records and calls the metric once. What it can say about a single record,
such as its CIDEr, it adds to the record's `scores`.

A metric is registered with `@METRICS.register(name, …)`, which also states its main score, whether
a lower one is better, whether it takes the whole corpus, and what the evaluator has to supply; see
`pgjax.registry`, where a new module of metrics is listed as well.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from pgjax.errors import DataError, UserError
from pgjax.registry import METRICS


def get_metric(name: str, **options: Any) -> Callable[..., dict[str, float]]:
    """Looks up a metric and binds its options.

    Args:
      name: the metric's name in `METRICS`.
      **options: the metric's keyword arguments, those that the evaluator supplies among them.

    Returns:
      `(prediction, meta) -> {name: float}`, or per corpus `(records) -> {name: float}`; picklable.

    Raises:
      UserError: an unknown metric or option; the message lists the choices.
    """
    function = METRICS.find(name, "metric").function
    parameters = inspect.signature(function).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise UserError(
                f"Metric {name!r} has no option {option!r}, expected "
                f"{'one of ' + ', '.join(known) if known else 'none'}."
            )
    return functools.partial(_explained, name, function, **options)


def _explained(name: str, function: Callable[..., dict[str, float]], *given: Any, **options: Any):
    """Calls a metric; says which examples it cannot score, instead of what it ran into there."""
    try:
        return function(*given, **options)
    except UserError:
        raise
    except Exception as e:
        what = "the examples" if len(given) == 1 else f"the example {given[1]!r:.300}"
        why = f"{type(e).__name__}: {' '.join(str(e).split())}"
        raise DataError(f"The metric {name!r} cannot score {what} ({why}).") from e
