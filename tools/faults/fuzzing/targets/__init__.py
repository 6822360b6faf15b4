"""All targets of the campaign."""

from tools.faults.fuzzing.targets import (
    benchmarks,
    calls,
    checkpoints,
    data,
    images,
    imports,
    kept,
    scores,
    sources,
)

TARGETS = [
    *images.TARGETS,
    *data.TARGETS,
    *imports.TARGETS,
    *sources.TARGETS,
    *checkpoints.TARGETS,
    *benchmarks.TARGETS,
    *scores.TARGETS,
    *kept.TARGETS,
    *calls.TARGETS,
]
