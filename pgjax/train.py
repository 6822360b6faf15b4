"""Trains: `python -m pgjax.train --config FILE[:args] --workdir DIR [--config.key=value …]`."""

import os
import pathlib

from absl import flags
from ml_collections import ConfigDict, config_flags

from pgjax import cli
from pgjax.errors import UserError
from pgjax.recipes import lighter

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, with its argument.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Run directory; an earlier run there goes on.")
_PRINT = flags.DEFINE_bool("print_config", False, "Print the resolved config and stop.")
_PLAN = flags.DEFINE_bool("plan", False, "Print what memory and time the run needs, and stop.")
_DEVICE = flags.DEFINE_string("device", None, "Device to plan for: t4, l4, a100-40, h100, v5e, ….")
_MESH = flags.DEFINE_string("mesh", None, "Mesh to plan for: data=8 or data=4,model=2.")
_JSON = flags.DEFINE_string("json", None, "File for the plan's figures.")
_LARGEST = flags.DEFINE_bool(
    "largest_batch", True, "Plan also the largest batch that fits: a few more compilations."
)
_PROFILE = flags.DEFINE_string("profile", "", "Steps to trace for TensorBoard: FROM-TO.")
_FRAMES = flags.DEFINE_integer("frames", 0, "Images per example to plan for; 0: as prepared.")


def main() -> None:
    """Reads the flags and calls `pgjax.training.loop.train`."""
    if _CONFIG.value is None:
        raise UserError("--config is missing; for instance --config configs/quickstart.py.")
    config = cli.open_config(_CONFIG)
    if _PRINT.value:
        print(config)
        return
    if _PLAN.value:
        _plan(config)
        return
    if _WORKDIR.value is None:
        raise UserError("--workdir is missing; it is where checkpoints and metrics go.")
    from pgjax.loading.compiler_options import cache_compilations
    from pgjax.training.loop import train

    cache_compilations()
    less = {flag: c.to_dict() for flag, c in lighter(config).items()}
    train(config.to_dict(), pathlib.Path(_WORKDIR.value).expanduser(), less, _PROFILE.value)


def _plan(config: ConfigDict) -> None:
    """Prints the plan; devices that are not there are compiled for by their own compiler.

    Where that is not installed, a CPU stands for as many of them as are needed.
    """
    if _MESH.value:
        config.mesh = _parse_mesh(_MESH.value)
    elif _DEVICE.value and config.mesh.data < 0:
        config.mesh.data = 1
    if elsewhere := bool(_MESH.value or _DEVICE.value):
        count = max(8, config.mesh.data * config.mesh.model)
        flag = f"--xla_force_host_platform_device_count={count}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    from pgjax.devices.data_sheets import get_device, this_device
    from pgjax.devices.targets import use_cpu
    from pgjax.training.training_plan import plan

    if elsewhere:
        use_cpu()
    device = get_device(_DEVICE.value) if _DEVICE.value else this_device()
    less = {flag: c.to_dict() for flag, c in lighter(config).items()}
    found = plan(config.to_dict(), less, device, frames=_FRAMES.value, largest=_LARGEST.value)
    print(found.text)
    if _JSON.value:
        cli.write_json(_JSON.value, found.report)


def _parse_mesh(text: str) -> dict[str, int]:
    sizes = {"data": 1, "model": 1}
    for item in text.split(","):
        axis, _, size = item.partition("=")
        if axis not in sizes or not size.isdecimal() or int(size) < 1:
            raise UserError(f"--mesh {text!r}: expected sizes such as data=8 or data=4,model=2.")
        sizes[axis] = int(size)
    return sizes


if __name__ == "__main__":
    cli.run(main)
