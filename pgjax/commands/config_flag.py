"""The flag `--config NAME[:ARGS]`, with `--config.KEY=VALUE` for each key of the config."""

import re
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from pgjax.commands.command import Command
from pgjax.commands.config_files import add_key, finish_config, load_one_config


class ConfigFlag:
    """`--config` of one command."""

    def __init__(self, command: Command, help: str):
        """Defines it.

        Args:
          command: whose flag it is.
          help: what the config is for.
        """
        self._values = command.flags
        config_flags.DEFINE_config_file(
            "config",
            None,
            f"{help} NAME of a config that comes with pgjax (see pgjax list configs), or a file "
            "PATH.py, with arguments after a colon: forkme:variant=tiny. --config.KEY=VALUE sets a "
            "value in it.",
            flag_values=command.flags,
            sys_argv=[command.name, *command.argv],
        )
        self._values["config"].parser = _Parser(command.argv)

    @property
    def given(self) -> str | None:
        """The flag's text; None where it is not given."""
        flag: Any = self._values["config"]
        return flag.config_filename if flag.present else None

    def read(self) -> ConfigDict:
        """The checked config, with its overrides and what its mode of adaptation sets.

        Raises:
          ConfigError: unknown keys or values that do not fit, or an unknown mode.
        """
        flag: Any = self._values["config"]
        return finish_config(flag.value, flag.override_values)


class _Parser(flags.ArgumentParser):
    """Reads the config when its flag is parsed, before the overrides are applied to it."""

    def __init__(self, argv: list[str]):
        overrides = (re.match(r"--?(?:no)?config\.([\w.-]+)", arg) for arg in argv)
        self._keys = [found[1] for found in overrides if found]

    def parse(self, argument: str) -> ConfigDict:
        config = load_one_config(argument)
        for key in self._keys:
            add_key(config, key)
        return config

    def flag_type(self) -> str:
        return "config"
