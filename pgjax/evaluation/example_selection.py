"""Selects records to look at, and finds the records of two runs about the same question."""

import heapq
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pgjax.evaluation.main_score import MainScore


def choose(
    records: Iterable[Mapping[str, Any]], main: MainScore, count: int, seed: int = 0
) -> dict[str, list[int]]:
    """Chooses the best, the worst and some random records, in one pass.

    Args:
      records: records with `scores`.
      main: the score by which records are ranked; records without it can only be random ones.
      count: the number of records in each group.
      seed: the seed of the random records, and of the choice among records with the same score.

    Returns:
      The positions of the records, from 0, in the groups `best`, `worst` and `random`.
    """
    rng = random.Random(seed)
    ranked, total = [], 0
    for i, record in enumerate(records):
        total += 1
        if (gain := main.gain(record)) is not None:
            ranked.append((gain, rng.random(), i))
    return {
        "best": [i for *_, i in heapq.nlargest(count, ranked)],
        "worst": [i for *_, i in heapq.nsmallest(count, ranked)],
        "random": sorted(rng.sample(range(total), min(count, total))),
    }


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
        ids = [[record.get(key) for record in records] for records in (a, b)]
        if all(None not in each and len(set(each)) == len(each) for each in ids):
            place = {value: i for i, value in enumerate(ids[1])}
            return [(i, place[value]) for i, value in enumerate(ids[0]) if value in place]
    return []
