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
    file = pathlib.Path(path).expanduser()
    part = file.with_name(file.name + ".part")
    try:
        part.write_text(json.dumps(value, indent=1) + "\n")
        part.replace(file)
    except OSError as e:
        raise UserError(f"--json {path} cannot be written ({e.strerror}).") from None
