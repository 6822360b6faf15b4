"""The folder of what pgjax keeps between runs and can make again."""

import os
import pathlib


def cache_folder() -> pathlib.Path:
    """Returns `$XDG_CACHE_HOME/pgjax`, or else `~/.cache/pgjax`; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "pgjax"
