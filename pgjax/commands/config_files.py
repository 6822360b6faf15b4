"""Configs by name or file: those that come with pgjax, and the user's own.

A config is written as `NAME[:ARGS]` or `PATH.py[:ARGS]`. Names are those of the files in configs/
and transfers/, which are installed with pgjax.
"""

import ast
import dataclasses
import difflib
import functools
import importlib.machinery
import os
import pathlib
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from pgjax.commands.command import one_line
from pgjax.config import parse_config, reference
from pgjax.config.init_sizes import check_init, derived_sizes
from pgjax.errors import ConfigError, UsageError, UserError
from pgjax.recipes import adapted

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("configs", "transfers")


@functools.cache
def packaged_configs() -> dict[str, pathlib.Path]:
    """The files of the configs that come with pgjax, by name."""
    files = {}
    for folder in FOLDERS:
        # In a wheel they lie inside the package, in a clone beside it.
        inside, beside = _PACKAGE / folder, _PACKAGE.parent / folder
        for file in sorted((inside if inside.is_dir() else beside).glob("*.py")):
            if file.stem != "__init__":
                files[file.stem] = file
    return files


def about_config(file: pathlib.Path) -> str:
    """The first line of a config file's docstring, "" where it has none."""
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    return text.partition("\n")[0]


def find_config(text: str) -> tuple[pathlib.Path, str | None]:
    """The file of `NAME[:ARGS]` or `PATH.py[:ARGS]`, and ARGS.

    Raises:
      UsageError: neither a file nor a config that comes with pgjax.
    """
    name, colon, args = text.partition(":")
    known = packaged_configs()
    if name in known:
        return known[name], args if colon else None
    path = pathlib.Path(os.path.expanduser(name))  # leaves a user alone that there is not
    if path.suffix == ".py" and path.is_file():
        return path, args if colon else None
    if path.stem in known and (path.suffix == ".py" or len(path.parts) > 1):
        raise UsageError(
            f"The config file {name} does not exist; the config of this name that comes with pgjax "
            f"is called {path.stem}{colon}{args}."
        )
    files = [str(file) for file in path.parent.glob("*.py")]
    near = difflib.get_close_matches(name, [*known, *files], 3)
    hint = (
        f"did you mean {' or '.join(map(repr, near))}?"
        if near
        else "pgjax list configs shows them."
    )
    if path.suffix == ".py":
        raise UsageError(f"The config file {name} does not exist; {hint}")
    raise UsageError(f"{name!r} is not a config that comes with pgjax; {hint}")


def load_config(text: str) -> ConfigDict | tuple[str, ...]:
    """What `get_config(ARGS)` of a config file returns: a config, or a tuple of names of configs.

    Raises:
      UsageError: the file is not found, fails while it runs, or returns something else.
    """
    path, args = find_config(text)
    name = f"pgjax_config_{path.stem}"
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses, for one, look for the module of a class
    try:
        loader.exec_module(module)
        config = module.get_config(*[] if args is None else [args])
    except UserError as e:
        raise UsageError(f"{text.partition(':')[0]}: {e}") from e
    except Exception as e:  # a config file is code, from which anything can come
        raise UsageError(f"{path} fails with {type(e).__name__}: {one_line(e)}.") from e
    if isinstance(config, ConfigDict):
        return config.lock()
    if isinstance(config, tuple) and all(isinstance(one, str) for one in config):
        return config
    raise UsageError(
        f"{path}: get_config() returns {type(config).__name__}, expected a ConfigDict, or a tuple "
        "of names of configs."
    )


def load_one_config(text: str) -> ConfigDict:
    """As `load_config`, where one config is expected."""
    config = load_config(text)
    if isinstance(config, tuple):
        raise UsageError(
            f"{text} stands for {len(config)} configs, expected one; pgjax evaluate --benchmarks "
            "takes such lists."
        )
    return config


def finish_config(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """The config with what its `init` and its mode of adaptation set; it is parsed as well.

    Args:
      config: as loaded, overrides included.
      overrides: `{dotted key: value}`, which win over the mode. One of `init` brings the decoder
        of that checkpoint along, unless another one names a variant.

    Raises:
      ConfigError: unknown keys or values that do not fit, or an unknown mode.
      UserError: a module of `config.imports` that cannot be imported.
    """
    config = adapted(config, overrides)
    if "init" in overrides and overrides.keys().isdisjoint(("model.llm", "model.llm.variant")):
        with config.unlocked():
            config.model.update(derived_sizes(config.init, config.model))
    check_init(parse_config(config), "config")
    return config


def read_configs(texts: Sequence[str]) -> dict[str, ConfigDict]:
    """The checked configs of several texts, by text.

    Args:
      texts: as a flag splits them at commas, of which ARGS may have some as well. A config file
        may return names of further configs instead of a config.

    Raises:
      UsageError: as `load_config` and `finish_config`.
    """
    whole: list[str] = []
    for text in texts:
        name = text.partition(":")[0]
        if whole and ":" in whole[-1] and not (name.endswith(".py") or name in packaged_configs()):
            whole[-1] += f",{text}"
        else:
            whole.append(text)
    configs: dict[str, ConfigDict] = {}
    for text in whole:
        config = load_config(text)
        if isinstance(config, tuple):
            configs |= read_configs(config)
        else:
            configs[text] = finish_config(config, {})
    return configs


def read_config(text: str, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """Reads a config as the commands do, to look at it, change it, and pass it to `finetune`.

    Args:
      text: `forkme:variant=tiny`, the name of a config that comes with pgjax, or `mine.py:…`, a
        file of one's own; what follows the colon goes to its `get_config`.
      overrides: `{"input.batch_size": 8}`, as `--config.input.batch_size=8` would.

    Returns:
      The whole config, a ConfigDict, checked.

    Raises:
      UserError: no such config, a key that it lacks, or a value of another type.
    """
    config, overrides = load_one_config(text), overrides or {}
    for key, value in overrides.items():
        add_key(config, key)
        *parents, last = key.split(".")
        node: Any = config
        for parent in parents:
            node = node[parent]
        try:
            node[last] = value
        except TypeError as e:
            raise UsageError(f"config.{key} is {value!r}: {one_line(e)}.") from None
    return finish_config(config, overrides)


def add_key(config: ConfigDict, key: str) -> None:
    """Makes a key ready to be overridden: one that the config leaves out is added with its default.

    Raises:
      ConfigError: there is no such key; the message says the nearest that the config has.
    """
    node: Any = config
    *parents, last = key.split(".")
    for part in parents:
        node = node.get(part) if isinstance(node, ConfigDict) else None
    if isinstance(node, ConfigDict) and last in node:
        return
    default = reference.default_of(key)
    if not isinstance(node, ConfigDict) or default is dataclasses.MISSING:
        known = [*_keys(config), *(k.name for k in reference.all_keys())]
        near = difflib.get_close_matches(key, known, 1)
        hint = f"the nearest is config.{near[0]}" if near else "--print_config shows all keys"
        raise ConfigError(f"config.{key} is not a known key; {hint}.")
    with node.unlocked():
        node[last] = default


def _keys(config: ConfigDict, prefix: str = "") -> list[str]:
    keys = []
    for key in config:
        value = config[key]
        keys.append(f"{prefix}{key}")
        if isinstance(value, ConfigDict):
            keys += _keys(value, f"{prefix}{key}.")
    return keys


def copy_config(name: str, dest: pathlib.Path) -> None:
    """Writes a copy of a config file that comes with pgjax, to be changed.

    Raises:
      UserError: no such config, or `dest` exists or cannot be written.
    """
    path, _ = find_config(name)
    if dest.suffix != ".py":
        raise UserError(f"{dest}: expected the name of a new file that ends in .py.")
    try:
        with dest.open("x") as f:  # never over a file that is there
            f.write(path.read_text())
    except FileExistsError:
        raise UserError(f"{dest} exists already; give another name.") from None
    except OSError as e:
        raise UserError(f"{dest} cannot be written ({e.strerror}).") from None
