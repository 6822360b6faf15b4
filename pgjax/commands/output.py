"""Files that commands write."""

import json
import pathlib
from typing import Any

from pgjax.errors import UserError


def write_json(path: str, value: Any) -> None:
    """Writes the file of `--json`; it appears whole or not at all.

    Raises:
      UserError: it cannot be written.
    """
    write_text("--json", path, json.dumps(value, indent=1) + "\n")


def write_text(flag: str, path: str, text: str) -> None:
    """Writes the file that a flag names; it appears whole or not at all.

    Raises:
      UserError: it cannot be written.
    """
    file = pathlib.Path(path).expanduser()
    part = file.with_name(file.name + ".part")
    try:
        part.write_text(text)
        part.replace(file)
    except OSError as e:
        raise UserError(f"{flag} {path} cannot be written ({e.strerror}).") from None
