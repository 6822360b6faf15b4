"""Where a run starts from: a packaged checkpoint, a released name, an `.npz`, a run directory."""

import importlib.resources
import os
import pathlib
from collections.abc import Mapping

import jax
import numpy as np

from pgjax import sharding, trees
from pgjax.checkpoints.npz import read_npz
from pgjax.errors import UserError

FOLDER_VARIABLE = "PGJAX_CHECKPOINTS"
PACKAGED = {"tiny": "tiny.npz"}


def find(name: str) -> pathlib.Path:
    """The file or run directory that a checkpoint source stands for.

    Args:
      name: `tiny` (ships with pgjax), a path, or a released name such as `pt-224` or
        `pt-224.f16`, looked up as `paligemma-3b-pt-224.npz` in $PGJAX_CHECKPOINTS.

    Raises:
      UserError: nothing is there; the message says where it looked.
    """
    if name in PACKAGED:
        return pathlib.Path(str(importlib.resources.files(__package__) / PACKAGED[name]))
    path = pathlib.Path(name).expanduser()
    if path.exists():
        return path
    if path.suffix == ".npz" or len(path.parts) > 1:
        raise UserError(f"Checkpoint {name} does not exist.")
    return find_released(f"paligemma-3b-{name}.npz", f"checkpoint {name!r}")


def find_released(filename: str, what: str) -> pathlib.Path:
    """A downloaded file in the folder that $PGJAX_CHECKPOINTS names.

    Raises:
      UserError: the variable is not set, or the file is not there.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        raise UserError(
            f"The {what} is not a path, so it is looked for in the folder that "
            f"${FOLDER_VARIABLE} names, which is not set; download {filename} (its licence "
            "must be accepted first) and set it to that folder."
        )
    path = pathlib.Path(folder) / filename
    if not path.exists():
        raise UserError(f"The {what} was looked for at {path}, which does not exist.")
    return path


def load_npz(
    path: pathlib.Path, targets: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.Array]:
    """Reads an `.npz` to the dtypes and shardings of the target, strictly.

    Raises:
      UserError: a missing, left-over or mis-shaped tensor, all listed together.
    """
    flat: dict[str, np.ndarray] = read_npz(path)
    trees.check_same(targets, flat, what=f"Checkpoint {path}")
    # A tensor leaves host memory as soon as it is on the device.
    return {
        name: sharding.put(flat.pop(name), target.sharding, target.dtype)
        for name, target in targets.items()
    }
