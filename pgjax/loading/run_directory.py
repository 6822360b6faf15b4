"""Run directories: the config, the tokenizer and a manifest, beside what training writes there.

    config.json       the resolved config, as the user gave it
    run.json          the manifest: the format's number and which parameters the run trains
    tokenizer.model   the tokenizer's SentencePiece model
    checkpoints/      what `pgjax.checkpoints.resume` writes: the trained parameters alone

Directories of pgjax before 0.2 have no manifest; `_trained` in their config.json names the
parameters.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from pgjax.checkpoints.resume import FOLDER
from pgjax.config import RunConfig, parse_config, to_dict
from pgjax.errors import UserError
from pgjax.schema import field, parse_file, read_json

CONFIG_FILE = "config.json"
MANIFEST_FILE = "run.json"
TOKENIZER_FILE = "tokenizer.model"

_FORMAT = 1
_OLD_KEY = "_trained"


@dataclasses.dataclass(frozen=True)
class _Manifest:
    """What `run.json` holds."""

    trained: tuple[str, ...] = field(doc="Names of the parameters that the run trains.")


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A run directory's config and the names of the parameters that the run trains."""

    path: pathlib.Path
    config: RunConfig
    trained: tuple[str, ...]

    @property
    def tokenizer(self) -> pathlib.Path:
        """The file of the run's tokenizer."""
        return self.path / TOKENIZER_FILE


def is_run(path: pathlib.Path) -> bool:
    """Whether a folder is a run directory; a Hugging Face folder has a config.json as well."""
    if (path / MANIFEST_FILE).exists() or (path / FOLDER).is_dir():
        return True
    try:
        return _OLD_KEY in json.loads((path / CONFIG_FILE).read_text())
    except (OSError, ValueError):
        return False


def read_run(path: pathlib.Path | str) -> RunDirectory:
    """Reads a run directory's config and manifest; checkpoints are not opened.

    Keys that a config of an older version lacks have their defaults. Modules that `imports` names
    are imported.

    Raises:
      UserError: it is not a run directory, or one of the two files does not hold what it should.
    """
    path = pathlib.Path(path)
    missing = f"{path} is not a run directory: it has no"
    given = read_json(path / CONFIG_FILE, f"{missing} {CONFIG_FILE}")
    if (old := given.pop(_OLD_KEY, None)) is not None:
        file, manifest = CONFIG_FILE, {"trained": old}
    else:
        file = MANIFEST_FILE
        manifest = read_json(path / file, f"{missing} {file}")
    trained = parse_file(_Manifest, manifest, path / file).trained
    try:
        config = parse_config(given)
    except UserError as e:
        raise UserError(f"{path / CONFIG_FILE}: {e}") from None
    return RunDirectory(path, config, trained)


def write_run(
    path: pathlib.Path, config: RunConfig, trained: Sequence[str], tokenizer: bytes
) -> None:
    """Writes config, manifest and tokenizer; each file is replaced whole.

    Args:
      path: the run directory, which exists.
      config: of the run, as the user gave it.
      trained: names of the parameters that the run trains.
      tokenizer: the SentencePiece model.

    Raises:
      UserError: a file cannot be written.
    """
    manifest = {"format": _FORMAT, "trained": list(trained)}
    files = {
        CONFIG_FILE: json.dumps(to_dict(config), indent=1).encode(),
        TOKENIZER_FILE: tokenizer,
        MANIFEST_FILE: json.dumps(manifest, indent=1).encode(),
    }
    try:
        for name, data in files.items():
            part = path / f"{name}.part"
            part.write_bytes(data)
            part.replace(path / name)
    except OSError as e:
        raise UserError(f"--workdir {path} cannot be written ({e}).") from None


def differences(before: Any, after: Any, key: str = "config") -> str:
    """What differs between two configs, as `config.seed was 0, is 1; …`; "" for equal ones."""
    if dataclasses.is_dataclass(before):
        before, after = to_dict(before), to_dict(after)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        parts = (
            differences(before.get(k), after.get(k), f"{key}.{k}")
            for k in sorted(before.keys() | after.keys())
        )
        return "; ".join(filter(None, parts))
    return "" if before == after else f"{key} was {before!r}, is {after!r}"
