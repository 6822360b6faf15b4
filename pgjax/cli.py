"""What the command lines share: flags, one-sentence errors, distributed start."""

import difflib
import json
import os
import pathlib
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from pgjax.errors import UserError
from pgjax.recipes import adapted, check_config
from pgjax.registry import import_extensions

FLAGS = flags.FLAGS

flags.DEFINE_bool("debug", False, "Show the whole traceback of an error.")
flags.DEFINE_string("coordinator", None, "host:port of process 0, for a run on several processes.")
flags.DEFINE_integer("num_processes", None, "How many processes the run has.")
flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
flags.DEFINE_bool(
    "distributed", False, "Several hosts whose cluster tells who is who (TPU, Slurm)."
)


def run(main: Callable[[], None]) -> None:
    """Parses the flags, runs `main`, and exits; a UserError becomes one line and status 1."""
    try:
        _parse_flags()
        _start_distributed()
        main()
    except UserError as e:
        _fail(str(e))
    except KeyboardInterrupt:
        _fail("interrupted; what was saved is whole.", 130)
    except BrokenPipeError:  # whoever reads the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def open_config(holder: flags.FlagHolder) -> ConfigDict:
    """The checked value of a config-file flag, with what its adaptation mode sets.

    Raises:
      UserError: the file cannot be read, gives no config, or has keys that nobody reads.
    """
    if not isinstance(holder.value, ConfigDict):
        path = config_flags.get_config_filename(FLAGS[holder.name])
        raise UserError(
            f"--{holder.name} {path} does not exist, or its get_config() gives no config."
        )
    check_config(holder.value)
    import_extensions(holder.value.imports)
    return adapted(holder.value, config_flags.get_override_values(FLAGS[holder.name]))


def read_configs(paths: Sequence[str]) -> dict[str, ConfigDict]:
    """The checked configs of `FILE.py[:args]`, by that text.

    Args:
      paths: as a flag splits them at commas, of which the args may have some as well. A file's
        get_config() may give further ones instead of a config.

    Raises:
      UserError: as `open_config`.
    """
    whole: list[str] = []
    for path in paths:
        if whole and not path.partition(":")[0].endswith(".py"):
            whole[-1] += f",{path}"
        else:
            whole.append(path)
    configs: dict[str, ConfigDict] = {}
    for path in whole:
        config = _read_config(path)
        configs |= {path: config} if isinstance(config, ConfigDict) else read_configs(config)
    return configs


def read_config(path: str, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """The checked config of `FILE.py[:args]`, as the command lines make it.

    Args:
      path: of the file, with its argument.
      overrides: `{"input.batch_size": 8}`, as `--config.input.batch_size=8` would.

    Raises:
      UserError: as `open_config`, or a key that the config lacks, or a value of another type.
    """
    config, overrides = _parse_config(path), overrides or {}
    if not isinstance(config, ConfigDict):
        raise UserError(f"{path} gives several configs, expected one.")
    for key, value in overrides.items():
        *parents, last = key.split(".")
        node = config
        for parent in parents:
            node = node.get(parent) if isinstance(node, ConfigDict) else None
        if not isinstance(node, ConfigDict) or last not in node:
            raise UserError(f"{path} has no config.{key}.")
        try:
            node[last] = value
        except TypeError as e:
            raise UserError(f"config.{key} {value!r}: {_one_line(e)}") from None
    check_config(config)
    import_extensions(config.imports)
    return adapted(config, overrides)


def write_json(path: str, value: Any) -> None:
    """Writes a file that is there whole or not at all.

    Raises:
      UserError: it cannot be written.
    """
    file = pathlib.Path(path).expanduser()
    part = file.with_name(file.name + ".part")
    try:
        part.write_text(json.dumps(value, indent=1) + "\n")
        part.replace(file)
    except OSError as e:
        raise UserError(f"--json {path} cannot be written ({e.strerror}).") from None


def _read_config(path: str) -> ConfigDict | tuple[str, ...]:
    config = _parse_config(path)
    if isinstance(config, tuple):
        return config
    check_config(config)
    import_extensions(config.imports)
    return adapted(config, {})


def _parse_config(path: str) -> ConfigDict | tuple[str, ...]:
    try:
        config = config_flags.config_flags.ConfigFileFlagParser("benchmark").parse(path)
    except UserError:
        raise
    except Exception as e:  # a config file runs while it is read
        raise UserError(f"{path} cannot be read: {_one_line(e)}") from e
    if isinstance(config, tuple):
        return config
    if not isinstance(config, ConfigDict):
        raise UserError(f"{path} does not exist, or its get_config() gives no config.")
    return config


def _parse_flags() -> None:
    try:
        rest = FLAGS(sys.argv)
    except flags.UnrecognizedFlagError as e:
        near = difflib.get_close_matches(e.flagname, list(FLAGS), 1)
        hint = f" Did you mean --{near[0]}?" if near else ""
        _fail(f"--{e.flagname} is not a flag of this command.{hint}", 2)
    except Exception as e:
        # A config file runs while its flag is parsed, so anything can come out of it.
        _fail(f"the flags cannot be read: {_one_line(e)}", 2)
    if rest[1:]:
        _fail(f"unexpected arguments {rest[1:]}; flags look like --name=value.", 2)


def _start_distributed() -> None:
    import jax

    if FLAGS.coordinator is not None:
        if FLAGS.num_processes is None or FLAGS.process_id is None:
            raise UserError("--coordinator needs --num_processes and --process_id as well.")
        jax.distributed.initialize(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    elif FLAGS.distributed:
        jax.distributed.initialize()


def _one_line(e: BaseException) -> str:
    return " ".join(str(e).split()) or type(e).__name__


def _fail(message: str, status: int = 1) -> None:
    debug = FLAGS["debug"].present and FLAGS["debug"].value
    if (debug or "--debug" in sys.argv) and sys.exc_info()[0] is not None:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr, flush=True)
    if FLAGS["coordinator"].value or FLAGS["distributed"].value:
        # At a normal exit jax waits for the other processes, which wait for this one.
        os._exit(status)
    sys.exit(status)
