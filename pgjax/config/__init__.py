"""The run config as typed, frozen dataclasses: parsed once, where a config is opened.

Users write and override a ConfigDict (`pgjax.recipes`); `parse_config` turns it into a `RunConfig`.
Nothing here imports jax.
"""

from pgjax.config.parsing import check_training, parse_config
from pgjax.config.sections import (
    AnsweringConfig,
    EvalConfig,
    InputConfig,
    LoraConfig,
    MeshConfig,
    MixtureEntry,
    ModelConfig,
    OptimizerConfig,
    RewardConfig,
    RunConfig,
    ScheduleConfig,
)
from pgjax.schema import to_dict

__all__ = [
    "AnsweringConfig",
    "EvalConfig",
    "InputConfig",
    "LoraConfig",
    "MeshConfig",
    "MixtureEntry",
    "ModelConfig",
    "OptimizerConfig",
    "RewardConfig",
    "RunConfig",
    "ScheduleConfig",
    "check_training",
    "parse_config",
    "to_dict",
]
