"""What config files start from, and the argument of a config file.

The keys, with their defaults, ranges and meaning, are those of `pgjax.config.RunConfig`.
"""

from typing import Any

from ml_collections import ConfigDict

from pgjax.config import RunConfig, to_dict
from pgjax.errors import UserError


def default_config() -> ConfigDict:
    """Every key of a run, with the values that most runs want; a config file changes its own."""
    return ConfigDict(to_dict(RunConfig()))


def parse_arg(arg: str | None, **defaults: Any) -> ConfigDict:
    """Parses a config file's argument, `key=value,flag,…`, as in `forkme.py:variant=tiny`.

    A value takes the type of its default; a bare key means True.

    Raises:
      UserError: an unknown key, or a value of another type.
    """
    out = ConfigDict(defaults)
    for item in filter(None, (arg or "").split(",")):
        key, eq, value = item.partition("=")
        if key not in defaults:
            raise UserError(
                f"config argument {key!r} is unknown; this file takes {sorted(defaults)}."
            )
        default = defaults[key]
        try:
            if isinstance(default, bool):
                out[key] = {"": True, "true": True, "1": True, "false": False, "0": False}[
                    value.lower()
                ]
            elif not eq:
                raise ValueError
            else:
                out[key] = type(default)(value)
        except (KeyError, ValueError, TypeError):
            raise UserError(
                f"config argument {item!r}: expected {key}=<{type(default).__name__}>."
            ) from None
    return out
