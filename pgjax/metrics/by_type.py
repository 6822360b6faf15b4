"""Accuracy averaged over types of questions, languages or splits."""

from collections.abc import Callable, Collection, Sequence

from pgjax.errors import DataError, UserError
from pgjax.metrics.aggregate import Mean
from pgjax.metrics.exact_match import exact_match
from pgjax.metrics.relaxed import relaxed_accuracy
from pgjax.metrics.vqa import vqa_accuracy
from pgjax.registry import METRICS

# The per-example metrics whose `acc` can be averaged.
ACCURACIES: dict[str, Callable[..., dict[str, float]]] = {
    "exact_match": exact_match,
    "relaxed_accuracy": relaxed_accuracy,
    "vqa_accuracy": vqa_accuracy,
}


@METRICS.register("accuracy_by_type", main="acc_all", corpus=True)
def accuracy_by_type(
    records: Sequence[dict],
    *,
    key: str = "question_type",
    exclude: Collection[str] = (),
    apart: str = "",
    metric: str = "exact_match",
    lower: bool = False,
) -> dict[str, float]:
    """Computes the accuracy of each type and their mean, in which every type weighs the same.

    The published score of RSVQA (Lobry et al., arXiv:2003.07333) is the mean over comparisons and
    presence: exclude=("count", "rural_urban") at low resolution, exclude=("count", "area") at high
    resolution. xGQA and MaRVL use key="language". ChartQA averages over its two kinds of questions
    with metric="relaxed_accuracy".

    Args:
      records: each holds `prediction`, `answers` or `suffix`, and its type. Records without
        references are skipped; each of the others gets its accuracy as `acc_all` in its `scores`.
      key: the key under which a record names its type; any values may occur.
      exclude: types that are left out of the mean, but still listed.
      apart: a type that a further mean leaves out: xGQA's over 7 languages, apart="en".
      metric: the per-example metric, one of `ACCURACIES`.
      lower: whether to ignore case.

    Returns:
      `acc`, the mean over types; `acc/<type>` for each type; `acc_all`, the mean over records; and,
      if `apart` is one of the types, `acc/avg<N>`, the mean over the N others.

    Raises:
      UserError: the metric is unknown.
      DataError: a record does not name its type, or no type is left to average over.
    """
    if metric not in ACCURACIES:
        raise UserError(
            f"The metric accuracy_by_type cannot average {metric!r}, expected one of "
            f"{[*ACCURACIES]}."
        )
    mean = Mean()
    for record in records:
        if key not in record:
            raise DataError(
                f"The metric accuracy_by_type needs the key {key!r}, but the example has "
                f"{list(record)}."
            )
        if scores := ACCURACIES[metric](record["prediction"], record, lower=lower):
            record.setdefault("scores", {})["acc_all"] = scores["acc"]
            mean.add({"acc_all": scores["acc"], f"acc/{record[key]}": scores["acc"]})
    result = mean.result()
    left_out = {f"acc/{value}" for value in exclude}
    types = {k: v for k, v in result.items() if k.startswith("acc/") and k not in left_out}
    counted = [*types.values()]
    if not counted:
        raise DataError(
            f"The metric accuracy_by_type found no labelled record with a {key} other than "
            f"{list(exclude)} among {len(records)}."
        )
    if types.pop(f"acc/{apart}", None) is not None and types:
        result[f"acc/avg{len(types)}"] = sum(types.values()) / len(types)
    return {"acc": sum(counted) / len(counted), **result}
