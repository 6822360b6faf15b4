"""All targets of the campaign."""

from tools.faults.fuzzing.targets import (
    benchmarks,
    calls,
    checkpoints,
    data,
    images,
    imports,
    scores,
)

TARGETS = [
    *images.TARGETS,
    *data.TARGETS,
    *imports.TARGETS,
    *checkpoints.TARGETS,
    *benchmarks.TARGETS,
    *scores.TARGETS,
    *calls.TARGETS,
]
