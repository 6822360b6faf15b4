"""Selects records to look at, and finds the records of two runs about the same question."""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pgjax.evaluation.main_score import MainScore


def choose(
    runs: Sequence[Iterable[Mapping[str, Any]]], main: MainScore, count: int, seed: int = 0
) -> dict[str, list[int]]:
    """Chooses examples to look at, each once, in one pass over each run's records.

    Args:
      runs: the records of each run on the same data, with `index` and `scores`.
      main: the score by which examples are ranked, by its mean over the runs; examples without it
        can only be random ones.
      count: the most examples in each group.
      seed: of the random examples, and of the choice among examples with the same score.

    Returns:
      The `index` of examples in the groups `differing` (on which runs are farthest apart), `worst`,
      `best` and `random`. None is in two groups, the highest score is never among the worst, nor
      the lowest among the best, and neither group takes more than half of the examples.
    """
    gains: dict[int, list[float]] = {}
    for records in runs:
        for record in records:
            found = gains.setdefault(record["index"], [])
            if (gain := main.gain(record)) is not None:
                found.append(gain)
    shuffled = random.Random(seed).sample(sorted(gains), len(gains))
    means = {i: sum(gains[i]) / len(gains[i]) for i in shuffled if gains[i]}
    spread = {i: max(gains[i]) - min(gains[i]) for i in means}
    low, high = min(means.values(), default=0.0), max(means.values(), default=0.0)
    few = min(count, (len(means) + 1) // 2)
    taken: set[int] = set()

    def take(candidates: Iterable[int], most: int) -> list[int]:
        some = [i for i in candidates if i not in taken][:most]
        taken.update(some)
        return some

    apart = sorted((i for i in means if spread[i] > 0), key=lambda i: -spread[i])
    groups = {"differing": take(apart, count)}
    ranked = sorted(means, key=lambda i: means[i])
    groups["worst"] = take((i for i in ranked if means[i] < high), few)
    groups["best"] = take((i for i in ranked[::-1] if means[i] > low), few)
    groups["random"] = take(shuffled, count)
    return groups


def breakdown(
    records: Iterable[Mapping[str, Any]], main: MainScore, key: str
) -> dict[str, list[float]]:
    """Groups main scores by the value of a key, such as `question_type`, largest group first."""
    groups: dict[str, list[float]] = {}
    for record in records:
        if key in record and (score := main.of(record)) is not None:
            groups.setdefault(str(record[key]), []).append(score)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def same_questions(
    a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]
) -> list[tuple[int, int]]:
    """Returns the positions (in a, in b) of records about the same question, in the order of a.

    A question is identified by `question_id`, `image_id` or `id`, whichever comes first that all
    records have and that no two share, and otherwise by its place in the source.
    """
    for key in ("question_id", "image_id", "id", "index"):
        ids = [[_id(record.get(key)) for record in records] for records in (a, b)]
        if all(None not in each and len(set(each)) == len(each) for each in ids):
            place = {value: i for i, value in enumerate(ids[1])}
            return [(i, place[value]) for i, value in enumerate(ids[0]) if value in place]
    return []


def _id(value: Any) -> str | int | None:
    return value if isinstance(value, str | int) else None
