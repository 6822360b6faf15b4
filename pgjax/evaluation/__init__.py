"""One runner: decode, score with a metric, sum over processes, store predictions."""
