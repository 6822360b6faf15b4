"""Means of per-example scores."""

import collections


class Mean:
    """The mean of every score over the examples that have it."""

    def __init__(self) -> None:
        """Starts without examples."""
        self._sums: dict[str, float] = collections.defaultdict(float)
        self._counts: dict[str, int] = collections.defaultdict(int)

    def add(self, scores: dict[str, float]) -> None:
        """Adds the scores of one example."""
        for key, value in scores.items():
            self._sums[key] += float(value)
            self._counts[key] += 1

    def counts(self) -> dict[str, int]:
        """Returns the number of examples that each score is averaged over, sorted by name."""
        return dict(sorted(self._counts.items()))

    def result(self) -> dict[str, float]:
        """Returns the means, sorted by name."""
        return {key: self._sums[key] / self._counts[key] for key in sorted(self._sums)}
