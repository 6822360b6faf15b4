"""Means of per-example scores, over any number of processes."""

import collections
import json


class Mean:
    """The mean of every key over the examples that have it.

    Each process adds its own examples and sends `to_json()`; whoever merges them all has the same
    result as one process with all examples, up to rounding.
    """

    def __init__(self):
        self._sums: dict[str, float] = collections.defaultdict(float)
        self._counts: dict[str, int] = collections.defaultdict(int)

    def add(self, scores: dict[str, float]) -> None:
        """Adds the scores of one example."""
        for key, value in scores.items():
            self._sums[key] += float(value)
            self._counts[key] += 1

    def merge(self, text: str) -> None:
        """Adds the examples of another `Mean`, given its `to_json()`."""
        for key, (total, count) in json.loads(text).items():
            self._sums[key] += total
            self._counts[key] += count

    def to_json(self) -> str:
        """Sums and counts as JSON, `{key: [sum, count]}`."""
        return json.dumps({key: [self._sums[key], self._counts[key]] for key in self._sums})

    def counts(self) -> dict[str, int]:
        """Over how many examples each key is averaged, sorted by key."""
        return dict(sorted(self._counts.items()))

    def result(self) -> dict[str, float]:
        """The means, sorted by key."""
        return {key: self._sums[key] / self._counts[key] for key in sorted(self._sums)}
