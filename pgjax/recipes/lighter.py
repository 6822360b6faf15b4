"""Changes of a config that make a run need less memory."""

import copy

from ml_collections import ConfigDict

from pgjax.recipes.adapt import MODES, adapted

# From what needs most to what needs least.
_MODES = ("full", "freeze_vit", "lora", "attention", "qlora")
_DEVICES = 8


def lighter(config: ConfigDict) -> dict[str, ConfigDict]:
    """Configs that need less memory than this one, by the flag that makes each of them.

    Args:
      config: full, with what its mode sets.
    """
    found = {}

    def add(flag: str, **changes) -> None:
        changed = copy.deepcopy(config)
        for key, value in changes.items():
            changed[key].update(value) if isinstance(value, dict) else changed.update({key: value})
        found[flag] = changed

    batch, parts = config.input.batch_size, config.grad_accum_steps
    for factor in (2, 8):
        if batch % (parts * factor) == 0:
            more = parts * factor
            add(f"--config.grad_accum_steps={more}", grad_accum_steps=more)
    if batch > 1 and batch % 2 == 0:
        add(f"--config.input.batch_size={batch // 2}", input={"batch_size": batch // 2})
    if config.model.remat != "full":
        add("--config.model.remat=full", model={"remat": "full"})
    if config.optimizer.name == "adam":
        add("--config.optimizer.name=adam8bit", optimizer={"name": "adam8bit"})
    now = _MODES.index(config.adapt) if config.adapt in _MODES else 0
    for mode in _MODES[now + 1 :]:
        if mode in MODES:
            add(f"--config.adapt={mode}", adapt=mode)
            found[f"--config.adapt={mode}"] = adapted(found.pop(f"--config.adapt={mode}"))
    if config.mesh.data in (-1, 1) and batch % _DEVICES == 0:
        add(f"--mesh=data={_DEVICES}", mesh={"data": _DEVICES})
    return found
