"""All targets of the campaign."""

from tools.faults.fuzzing.targets import data, images

TARGETS = [*images.TARGETS, *data.TARGETS]
