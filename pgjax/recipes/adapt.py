"""Modes of adaptation: how much of the model a run tunes, by one config value.

`config.adapt` names a mode, or is a regular expression of the parameters that train. A flag of its
own wins over what a mode sets.
"""

import copy
import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from pgjax.errors import ConfigError

_TOWER = "img/(?!head/).*"  # without the projection into the decoder
_ATTENTION = "llm/layers/attn/.*"

# Adapters beside the matrices that model.lora.targets names, trained at ten to twenty times the
# learning rate of full tuning, as in the papers.
_LORA = {
    "trainable": ((".*_lora_[ab]", True), (".*", False)),
    "trainable_dtype": "float32",
    "model.lora.rank": 8,
    "optimizer.lr": 2e-4,
}

MODES: dict[str, dict[str, Any]] = {
    "full": {"trainable": ((".*", True),)},
    "freeze_vit": {"trainable": ((_TOWER, False), (".*", True))},
    "freeze_llm": {"trainable": (("llm/.*", False), (".*", True))},
    "projector": {"trainable": (("img/head/.*", True), (".*", False))},
    # Plain SGD on the decoder's attention matrices, for a T4, as in big_vision's notebook. Dtypes
    # that the config leaves to `auto` suit the device: float16 on a T4, bfloat16 on newer ones.
    "attention": {
        "trainable": ((_ATTENTION, True), (".*", False)),
        "trainable_dtype": "float32",
        "optimizer.name": "sgd",
        "optimizer.args": {},
        "optimizer.lr": 0.03,
        "optimizer.weight_decay": 0.0,
        "optimizer.grad_clip_norm": 0.0,
        "schedule.decay": "cosine",
        "schedule.warmup_percent": 0.1,
        "schedule.first_step": 1,
    },
    "lora": _LORA,
    # The frozen decoder in 4 bits with double quantization (arXiv:2305.14314).
    "qlora": {**_LORA, "quantize": "nf4"},
}


def adapted(config: ConfigDict, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """A copy of a config with what its mode of adaptation sets.

    Args:
      config: whose `adapt` is a mode, a regular expression, or "" for the config's own `trainable`.
      overrides: `{dotted key: value}` that flags have set, which win over the mode.

    Raises:
      ConfigError: the mode does not exist.
    """
    mode, overrides = config.get("adapt"), overrides or {}
    if not mode or not isinstance(mode, str):
        return config
    if mode not in MODES and mode.isidentifier():
        near = difflib.get_close_matches(mode, MODES, 1)
        hint = f", of which {near[0]!r} is the nearest" if near else ""
        raise ConfigError(
            f"config.adapt is {mode!r}; expected one of {', '.join(MODES)}{hint}, or a regular "
            "expression of parameter names."
        )
    changes = MODES.get(mode, {"trainable": ((mode, True), (".*", False))})
    config = copy.deepcopy(config)
    for key, value in changes.items():
        if not any(key == k or k.startswith(f"{key}.") for k in overrides):
            *path, last = key.split(".")
            node: Any = config
            for part in path:
                node = node[part]
            node[last] = ConfigDict(value) if isinstance(value, dict) else value
    return config
