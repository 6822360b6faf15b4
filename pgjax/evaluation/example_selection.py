"""Which records to look at: the best, the worst, and some at random."""

import heapq
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LOWER_IS_BETTER = ("loss",)
_MAIN = ("acc", "cider", "anls", "miou", "iou", "acc_all", "loss")


def main_score(record: Mapping[str, Any]) -> str | None:
    """The key of a record's score that says most; None where it has none."""
    keys = [k for k in record["scores"] if not k.startswith("_") and "/" not in k]
    return next((k for k in _MAIN if k in keys), keys[0] if keys else None)


def choose(records: Iterable[Mapping[str, Any]], count: int, seed: int = 0) -> dict[str, list[int]]:
    """Numbers of records, from one pass.

    Args:
      records: with `scores`.
      count: of each kind.
      seed: of the random ones, and of the choice among equals.

    Returns:
      `best`, `worst`, by their main score, and `random`; all of them in that order.
    """
    rng = random.Random(seed)
    ranked, total = [], 0
    for i, record in enumerate(records):
        total += 1
        if key := main_score(record):
            score = record["scores"][key]
            ranked.append((-score if key in LOWER_IS_BETTER else score, rng.random(), i))
    return {
        "best": [i for *_, i in heapq.nlargest(count, ranked)],
        "worst": [i for *_, i in heapq.nsmallest(count, ranked)],
        "random": sorted(rng.sample(range(total), min(count, total))),
    }


def breakdown(records: Iterable[Mapping[str, Any]], key: str) -> dict[str, list[float]]:
    """Main scores by the value of another key, such as `question_type`, largest group first."""
    groups: dict[str, list[float]] = {}
    for record in records:
        if key in record and (score := main_score(record)):
            groups.setdefault(str(record[key]), []).append(record["scores"][score])
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def same_questions(
    a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]
) -> list[tuple[int, int]]:
    """Numbers (in a, in b) of records about the same question, in the order of a.

    Questions are known by `question_id`, `image_id` or `id` where every record has one of its own,
    else by their place in the source.
    """
    for key in ("question_id", "image_id", "id", "index"):
        ids = [[record.get(key) for record in records] for records in (a, b)]
        if all(None not in each and len(set(each)) == len(each) for each in ids):
            place = {value: i for i, value in enumerate(ids[1])}
            return [(i, place[value]) for i, value in enumerate(ids[0]) if value in place]
    return []
