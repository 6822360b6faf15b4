"""Benchmarks: readers of their official files, how they are prepared, and published scores."""
