"""Run directories: their config, manifest and tokenizer, beside what training writes there.

    config.json       the config with the user's overrides
    run.json          the manifest: the number of the format, the parameters that the run trains,
                      and where its other parameters come from
    tokenizer.model   the SentencePiece model of the tokenizer
    checkpoints/      the trained parameters and the state of training, see `checkpoints.resume`

Run directories of older versions have no manifest; there, `_trained` in config.json names the
trained parameters.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from pgjax.checkpoints.base_checkpoint import BaseRecord, find_base, record_base
from pgjax.checkpoints.resume import FOLDER
from pgjax.config import RunConfig, parse_config, to_dict
from pgjax.errors import UserError
from pgjax.loading.best_checkpoint import BEST, TrackedScore, read_scores
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
    base_path: str = field("", doc="The absolute path of config.init, if it is a path.")
    base_checksum: str = field("", doc="The checksum of what lies there.")
    best_score: str = field("", doc="The score by which the best checkpoint is kept.")
    best_is_lowest: bool = field(False, doc="Whether a lower value of it is better.")


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A run directory's config and manifest.

    Attributes:
      path: the folder.
      config: of the run.
      trained: the names of the parameters that the run trains.
      base: what is recorded of the source of all others, which `config.init` names.
      best: the score by which the best checkpoint is kept; None where none is.
    """

    path: pathlib.Path
    config: RunConfig
    trained: tuple[str, ...]
    base: BaseRecord
    best: TrackedScore | None = None

    def find_base(self) -> str:
        """Returns the name under which the source of the parameters that it keeps can be opened.

        Raises:
          UserError: it is not found.
        """
        return find_base(self.base, self.path) if self.base.name else ""

    def choose_step(self, steps: Sequence[int], wanted: int | str | None) -> int:
        """Returns the step of one of the run's checkpoints.

        Args:
          steps: those of all checkpoints.
          wanted: the step, `best` for the one with the best `keep_best` score, or None for the
            newest.

        Raises:
          UserError: there is no such checkpoint, or the run keeps no best one.
        """
        if not steps:
            raise UserError(f"Run directory {self.path} holds no complete checkpoint.")
        if wanted is None:
            return max(steps)
        if wanted == BEST:
            if self.best is None:
                raise UserError(
                    f"step is 'best', but {self.path} keeps no best checkpoint, since its "
                    f"config.keep_best is empty; expected one of its steps {sorted(steps)}."
                )
            values = read_scores(self.path, self.best.key)
            found = self.best.best({step: v for step, v in values.items() if step in steps})
            if found is None:
                raise UserError(
                    f"step is 'best', but {self.path} has no {self.best.key} of a checkpoint; "
                    f"expected one of its steps {sorted(steps)}."
                )
            return found
        if not str(wanted).isdecimal() or int(wanted) not in steps:
            raise UserError(
                f"step is {wanted!r}, expected 'best' or one of the checkpoints of {self.path}, "
                f"{sorted(steps)}."
            )
        return int(wanted)

    @property
    def tokenizer(self) -> pathlib.Path:
        """The file of the run's tokenizer."""
        return self.path / TOKENIZER_FILE


def is_run(path: pathlib.Path) -> bool:
    """Whether a path is a run directory; a folder of Hugging Face has a config.json as well."""
    if not os.path.isdir(path):  # also of what cannot be a path, such as thousands of characters
        return False
    if (path / MANIFEST_FILE).exists() or (path / FOLDER).is_dir():
        return True
    try:
        found = json.loads((path / CONFIG_FILE).read_text())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and _OLD_KEY in found


def read_run(path: pathlib.Path | str) -> RunDirectory:
    """Reads a run directory's config and manifest; checkpoints are not opened.

    Keys that a config of an older version lacks have their defaults. Modules that `imports` names
    are imported.

    Raises:
      UserError: it is not a run directory, one of the two files is damaged, or a newer version of
        pgjax wrote them.
    """
    path = pathlib.Path(path)
    missing = f"{path} is not a run directory: it has no"
    given = read_json(path / CONFIG_FILE, f"{missing} {CONFIG_FILE}")
    if _OLD_KEY in given:
        file, manifest = CONFIG_FILE, {"format": _FORMAT, "trained": given.pop(_OLD_KEY)}
    else:
        file = MANIFEST_FILE
        manifest = read_json(path / file, f"{missing} {file}")
    if manifest.get("format", _FORMAT) != _FORMAT:
        raise UserError(
            f"{path / file}: 'format' is {manifest['format']!r}, expected {_FORMAT}; a newer "
            "version of pgjax may have written it."
        )
    found = parse_file(_Manifest, manifest, path / file)
    try:
        config = parse_config(given)
    except UserError as e:
        raise UserError(f"{path / CONFIG_FILE}: {e}") from None
    base = BaseRecord(config.init, found.base_path, found.base_checksum)
    best = TrackedScore(found.best_score, found.best_is_lowest) if found.best_score else None
    return RunDirectory(path, config, found.trained, base, best)


def write_run(
    path: pathlib.Path,
    config: RunConfig,
    trained: Sequence[str],
    tokenizer: bytes,
    best: TrackedScore | None = None,
) -> None:
    """Writes config, manifest and tokenizer; no file is ever left half-written.

    Args:
      path: the run directory, which exists.
      config: of the run, as the user gave it.
      trained: names of the parameters that the run trains.
      tokenizer: the SentencePiece model.
      best: the score by which the best checkpoint is kept; None where none is.

    Raises:
      UserError: a file cannot be written.
    """
    base = _base_to_write(path, config.init)
    manifest = {
        "format": _FORMAT,
        "trained": list(trained),
        "base_path": base.path,
        "base_checksum": base.checksum,
    }
    if best:
        manifest |= {"best_score": best.key, "best_is_lowest": best.lower_is_better}
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


def _base_to_write(path: pathlib.Path, name: str) -> BaseRecord:
    """The record of a base; what is known of it is kept when the run goes on from elsewhere."""
    found = record_base(name)
    if not found.path and (path / MANIFEST_FILE).exists():
        known = read_run(path).base
        return known if known.name == name else found
    return found


def differences(before: Any, after: Any, key: str = "config") -> str:
    """Describes how configs differ, as `config.seed was 0, is 1; …`; "" for equal ones."""
    if dataclasses.is_dataclass(before):
        before, after = to_dict(before), to_dict(after)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        parts = (
            differences(before.get(k), after.get(k), f"{key}.{k}")
            for k in sorted(before.keys() | after.keys())
        )
        return "; ".join(filter(None, parts))
    return "" if before == after else f"{key} was {before!r}, is {after!r}"
