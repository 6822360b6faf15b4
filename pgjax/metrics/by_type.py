"""The mean over types of questions, languages or splits, each with its own accuracy."""

from collections.abc import Callable, Collection, Sequence

from pgjax.errors import DataError, UserError
from pgjax.metrics.aggregate import Mean
from pgjax.metrics.exact_match import exact_match
from pgjax.metrics.relaxed import relaxed_accuracy
from pgjax.metrics.vqa import vqa_accuracy
from pgjax.registry import METRICS

# Per-example metrics whose `acc` it takes the mean of.
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
    metric: str = "exact_match",
    lower: bool = False,
) -> dict[str, float]:
    """Accuracy per type and their mean, in which every type weighs the same.

    RSVQA (Lobry et al., arXiv:2003.07333): the published score is that of comparisons and presence,
    exclude=("count", "rural_urban") at low resolution and exclude=("count", "area") at high. xGQA
    and MaRVL: key="language".
    ChartQA: the mean over its two kinds of questions, metric="relaxed_accuracy".

    Args:
      records: `prediction`, `answers` or `suffix`, and the type.
      key: where a record names its type; any values may occur.
      exclude: types to leave out of the mean; they are listed all the same.
      metric: per-example metric, one of `ACCURACIES`.
      lower: compare in lower case.

    Returns:
      `acc`, the mean over types; `acc/<type>` for each; and `acc_all`, that over records, to
      whose `scores` it is added. Records without references are not counted.

    Raises:
      UserError: an unknown metric.
      DataError: a record without its type, or no type that counts.
    """
    if metric not in ACCURACIES:
        raise UserError(
            f"accuracy_by_type has no metric {metric!r}, expected one of {[*ACCURACIES]}."
        )
    mean = Mean()
    for record in records:
        if key not in record:
            raise DataError(
                f"metric accuracy_by_type expects the key {key!r}, the example has {list(record)}"
            )
        if scores := ACCURACIES[metric](record["prediction"], record, lower=lower):
            record.setdefault("scores", {})["acc_all"] = scores["acc"]
            mean.add({"acc_all": scores["acc"], f"acc/{record[key]}": scores["acc"]})
    result = mean.result()
    left_out = {f"acc/{value}" for value in exclude}
    counted = [v for k, v in result.items() if k.startswith("acc/") and k not in left_out]
    if not counted:
        raise DataError(
            f"accuracy_by_type: no labelled record of a {key} other than {list(exclude)} "
            f"among {len(records)}"
        )
    return {"acc": sum(counted) / len(counted), **result}
