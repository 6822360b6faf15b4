"""Changes of a config that make a run need less memory."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from pgjax.config import RunConfig, parse_config, to_dict
from pgjax.recipes.adapt import MODES, adapted

# From the mode that needs most memory to the one that needs least.
_MODES = ("full", "freeze_vit", "lora", "attention", "qlora")
_DEVICES = 8


def memory_savers(config: RunConfig) -> dict[str, RunConfig]:
    """Configs that need less memory than this one, by the flag that makes each of them.

    Args:
      config: with what its mode of adaptation sets.
    """
    found = {}

    def add(flag: str, changes: Mapping[str, Any]) -> None:
        found[flag] = _changed(config, changes)

    batch, parts = config.input.batch_size, config.grad_accum_steps
    for factor in (2, 8):
        if batch % (parts * factor) == 0:
            more = parts * factor
            add(f"--config.grad_accum_steps={more}", {"grad_accum_steps": more})
    if batch > 1 and batch % 2 == 0:
        add(f"--config.input.batch_size={batch // 2}", {"input": {"batch_size": batch // 2}})
    if config.model.remat != "full":
        add("--config.model.remat=full", {"model": {"remat": "full"}})
    if config.optimizer.name == "adam":
        add("--config.optimizer.name=adam8bit", {"optimizer": {"name": "adam8bit"}})
    now = _MODES.index(config.adapt) if config.adapt in _MODES else 0
    for mode in _MODES[now + 1 :]:
        if mode in MODES:
            changed = ConfigDict(to_dict(config))
            changed.adapt = mode
            found[f"--config.adapt={mode}"] = parse_config(adapted(changed))
    if config.mesh.data in (-1, 1) and batch % _DEVICES == 0:
        add(f"--mesh=data={_DEVICES}", {"mesh": {"data": _DEVICES}})
    return found


def _changed(section: Any, changes: Mapping[str, Any]) -> Any:
    """The section with other values, of which a mapping changes a section inside."""
    values = {
        key: _changed(getattr(section, key), value) if isinstance(value, Mapping) else value
        for key, value in changes.items()
    }
    return dataclasses.replace(section, **values)
