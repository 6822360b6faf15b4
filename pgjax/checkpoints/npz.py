"""Released parameter files: plain `.npz` with every key under `params/`."""

import os

import ml_dtypes
import numpy as np
from etils import epath

from pgjax.errors import UserError

PREFIX = "params/"


def read_npz(path: os.PathLike | str) -> dict[str, np.ndarray]:
    """Reads a flat parameter dict.

    bfloat16 arrays come back from numpy as raw 2-byte void and are reinterpreted.

    Args:
      path: local or remote file.

    Returns:
      `{"img/…": array}` in the file's dtypes.

    Raises:
      UserError: missing, truncated or pickled file, or one that holds no `params/` keys.
    """
    path = epath.Path(path)
    if not path.is_file():
        raise UserError(f"Checkpoint {path} does not exist.")
    flat = {}
    try:
        with path.open("rb") as f, np.load(f, allow_pickle=False) as arrays:
            for key in arrays.files:
                x = arrays[key]
                if x.dtype == np.dtype("V2"):
                    x = x.view(ml_dtypes.bfloat16)
                flat[key] = x
    except Exception as e:  # zipfile, zlib and numpy raise whatever damaged bytes lead them to
        raise UserError(
            f"Checkpoint {path} is not a readable .npz file ({str(e) or type(e).__name__}); "
            "it may be truncated."
        ) from None
    if not flat or not all(key.startswith(PREFIX) for key in flat):
        raise UserError(
            f"Checkpoint {path}: expected every key under {PREFIX!r}, found "
            f"{sorted(flat)[:3] or 'no key at all'}."
        )
    return {key.removeprefix(PREFIX): x for key, x in flat.items()}


def write_npz(path: os.PathLike | str, flat: dict[str, np.ndarray]) -> None:
    """Writes a flat parameter dict so that the file appears whole or not at all.

    Raises:
      UserError: the file cannot be written.
    """
    path = epath.Path(path)
    part = path.parent / f"{path.name}.part"
    try:
        with part.open("wb") as f:
            np.savez(f, **{PREFIX + name: np.asarray(x) for name, x in flat.items()})
        part.replace(path)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise UserError(f"Checkpoint {path} could not be written ({e}).") from None
