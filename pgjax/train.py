"""Trains: `python -m pgjax.train --config FILE[:args] --workdir DIR [--config.key=value …]`."""

import pathlib

from absl import flags
from ml_collections import config_flags

from pgjax import cli
from pgjax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, with its argument.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Run directory; an earlier run there goes on.")
_PRINT = flags.DEFINE_bool("print_config", False, "Print the resolved config and stop.")


def main() -> None:
    """Reads the flags and calls `pgjax.training.loop.train`."""
    if _CONFIG.value is None:
        raise UserError("--config is missing; for instance --config configs/quickstart.py.")
    config = cli.open_config(_CONFIG)
    if _PRINT.value:
        print(config)
        return
    if _WORKDIR.value is None:
        raise UserError("--workdir is missing; it is where checkpoints and metrics go.")
    from pgjax.compilation import cache_compilations  # --print_config needs no jax
    from pgjax.training.loop import train

    cache_compilations()
    train(config.to_dict(), pathlib.Path(_WORKDIR.value).expanduser())


if __name__ == "__main__":
    cli.run(main)
