"""Run directories: their config, manifest and tokenizer, beside what training writes there.

    config.json       the config with the user's overrides
    run.json          the manifest: the number of the format and the parameters that the run trains
    tokenizer.model   the SentencePiece model of the tokenizer
    checkpoints/      the trained parameters and the state of training, see `checkpoints.resume`

Run directories of older versions have no manifest; there, `_trained` in config.json names the
trained parameters.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from pgjax.checkpoints.resume import FOLDER
from pgjax.errors import UserError

CONFIG_FILE = "config.json"
MANIFEST_FILE = "run.json"
TOKENIZER_FILE = "tokenizer.model"

_FORMAT = 1
_OLD_KEY = "_trained"


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A run directory's config, and the names of the parameters that the run trains."""

    path: pathlib.Path
    config: dict[str, Any]
    trained: tuple[str, ...]

    @property
    def tokenizer(self) -> pathlib.Path:
        """The file of the run's tokenizer."""
        return self.path / TOKENIZER_FILE


def is_run(path: pathlib.Path) -> bool:
    """Whether a folder is a run directory; one from Hugging Face has a config.json as well."""
    if (path / MANIFEST_FILE).exists() or (path / FOLDER).is_dir():
        return True
    try:
        found = json.loads((path / CONFIG_FILE).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and _OLD_KEY in found


def read_run(path: pathlib.Path | str) -> RunDirectory:
    """Reads a run directory's config and manifest; checkpoints are not opened.

    Raises:
      UserError: it is not a run directory, one of the two files is damaged, or a newer version of
        pgjax wrote them.
    """
    path = pathlib.Path(path)
    config = _read_json(path, CONFIG_FILE)
    if _OLD_KEY in config:
        where, trained = f"{path / CONFIG_FILE}: {_OLD_KEY!r}", config.pop(_OLD_KEY)
    else:
        manifest = _read_json(path, MANIFEST_FILE)
        if manifest.get("format") != _FORMAT:
            raise UserError(
                f"{path / MANIFEST_FILE}: 'format' is {manifest.get('format')!r}, expected "
                f"{_FORMAT}; a newer version of pgjax may have written it."
            )
        where, trained = f"{path / MANIFEST_FILE}: 'trained'", manifest.get("trained")
    if not isinstance(trained, list) or not all(isinstance(name, str) for name in trained):
        raise UserError(f"{where} is {trained!r}, expected a list of parameter names.")
    return RunDirectory(path, config, tuple(trained))


def read_run_config(path: pathlib.Path | str) -> dict[str, Any]:
    """Reads the config of a run directory.

    Raises:
      UserError: as for `read_run`.
    """
    return read_run(path).config


def write_run(
    path: pathlib.Path, config: Mapping[str, Any], trained: Sequence[str], tokenizer: bytes
) -> None:
    """Writes config, manifest and tokenizer; no file is ever left half-written.

    Args:
      path: the run directory, which exists.
      config: the config, of values that JSON has.
      trained: names of the parameters that the run trains.
      tokenizer: the SentencePiece model.

    Raises:
      UserError: a file cannot be written.
    """
    manifest = {"format": _FORMAT, "trained": list(trained)}
    files = {
        CONFIG_FILE: json.dumps(config, indent=1).encode(),
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
    """Describes how configs differ, as `config.seed was 0, is 1; …`; "" for equal ones."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        parts = (
            differences(before.get(k), after.get(k), f"{key}.{k}")
            for k in sorted(before.keys() | after.keys())
        )
        return "; ".join(filter(None, parts))
    return "" if before == after else f"{key} was {before!r}, is {after!r}"


def _read_json(path: pathlib.Path, name: str) -> dict[str, Any]:
    file = path / name
    try:
        found = json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} is not a run directory: it has no {name}.") from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{file} cannot be read ({e}).") from None
    except json.JSONDecodeError as e:
        raise UserError(f"{file}:{e.lineno}: not JSON ({e.msg}).") from None
    if not isinstance(found, dict):
        raise UserError(f"{file} holds a {type(found).__name__}, expected a JSON object.")
    return found
