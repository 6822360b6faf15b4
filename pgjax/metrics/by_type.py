"""The mean over types of questions, languages or splits, each with its own accuracy."""

from collections.abc import Callable, Collection, Sequence

from pgjax.errors import DataError, UserError
from pgjax.metrics.aggregate import Mean
from pgjax.metrics.exact_match import exact_match
from pgjax.metrics.relaxed import relaxed_accuracy
from pgjax.metrics.vqa import vqa_accuracy

# Per-example metrics to take the mean of, and which of their scores.
SCORES: dict[str, tuple[Callable[..., dict[str, float]], str]] = {
    "exact_match": (exact_match, "acc"),
    "relaxed_accuracy": (relaxed_accuracy, "relaxed_acc"),
    "vqa_accuracy": (vqa_accuracy, "acc"),
}


def accuracy_by_type(
    records: Sequence[dict],
    *,
    key: str = "question_type",
    exclude: Collection[str] = (),
    metric: str = "exact_match",
    lower: bool = False,
) -> dict[str, float]:
    """Accuracy per type and their mean, in which every type weighs the same.

    RSVQA (Lobry et al., arXiv:2003.07333): the mean over types, without the numeric ones
    (exclude=("count",), for the high resolution "area" too). xGQA and MaRVL: key="language".
    ChartQA: the mean over its two kinds of questions, metric="relaxed_accuracy".

    Args:
      records: `prediction`, `answers` or `suffix`, and the type.
      key: where a record names its type; any values may occur.
      exclude: types to leave out of the mean; they are listed all the same.
      metric: per-example metric, one of `SCORES`.
      lower: compare in lower case.

    Returns:
      `acc_avg`, the mean over types; `acc/<type>` for each; and `acc` over all records. Each
      record's own goes to its `scores`. Records without references are not counted.

    Raises:
      UserError: an unknown metric.
      DataError: a record without its type, or no type that counts.
    """
    if metric not in SCORES:
        raise UserError(f"accuracy_by_type has no metric {metric!r}, expected one of {[*SCORES]}.")
    function, name = SCORES[metric]
    mean = Mean()
    for record in records:
        if key not in record:
            raise DataError(
                f"metric accuracy_by_type expects the key {key!r}, the example has {list(record)}"
            )
        if scores := function(record["prediction"], record, lower=lower):
            record.setdefault("scores", {})["acc"] = scores[name]
            mean.add({"acc": scores[name], f"acc/{record[key]}": scores[name]})
    result = mean.result()
    left_out = {f"acc/{value}" for value in exclude}
    counted = [v for k, v in result.items() if k.startswith("acc/") and k not in left_out]
    if not counted:
        raise DataError(
            f"accuracy_by_type: no labelled record of a {key} other than {sorted(exclude)} "
            f"among {len(records)}"
        )
    return {"acc_avg": sum(counted) / len(counted), **result}
