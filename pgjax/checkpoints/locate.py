"""Where checkpoints and the files beside them lie: packaged, at a path, released, downloaded."""

import importlib.resources
import os
import pathlib

from pgjax.checkpoints import hub, released
from pgjax.errors import UserError

FOLDER_VARIABLE = "PGJAX_CHECKPOINTS"
PACKAGED = {"tiny": "tiny.npz"}
TOKENIZER = "paligemma_tokenizer.model"
MASK_CODEC = "vae-oid.npz"


def find_checkpoint(name: str) -> pathlib.Path:
    """Returns the file or folder of a checkpoint.

    A released name is looked for in the folder that $PGJAX_CHECKPOINTS names, then downloaded.

    Args:
      name: a packaged name (`tiny`), a path, or a released name.

    Raises:
      UserError: nothing is there; the message says where it was looked for.
    """
    if name in PACKAGED:
        return _packaged(PACKAGED[name])
    path = pathlib.Path(name).expanduser()
    if path.exists():
        return path
    release = released.get(name)
    if release is None:
        if path.suffix == ".npz" or len(path.parts) > 1:
            raise UserError(f"Checkpoint {name} does not exist.")
        raise UserError(
            f"Checkpoint {name!r} is neither a path nor a released name. {released.hint(name)}"
        )
    found = (find_released(file) for file in release.files)
    return next(filter(None, found), None) or hub.download(release)


def find_released(filename: str) -> pathlib.Path | None:
    """Returns a file or folder in the folder that $PGJAX_CHECKPOINTS names, or None."""
    folder = os.environ.get(FOLDER_VARIABLE)
    path = pathlib.Path(folder or "") / filename
    return path if folder and path.exists() else None


def find_tokenizer() -> pathlib.Path:
    """Returns the file of Gemma's tokenizer, from $PGJAX_CHECKPOINTS or downloaded.

    Raises:
      UserError: it is not there and cannot be downloaded.
    """
    return find_released(TOKENIZER) or hub.download_tokenizer(TOKENIZER)


def find_mask_codec(tiny: bool) -> pathlib.Path:
    """Returns the file of the mask codec.

    Args:
      tiny: whether it is the packaged one of the checkpoint `tiny`, or else the released one, from
        $PGJAX_CHECKPOINTS.

    Raises:
      UserError: the released one is not there.
    """
    if tiny:
        return _packaged("tiny_vae.npz")
    if (path := find_released(MASK_CODEC)) is None:
        raise UserError(
            f"Masks need the codec {MASK_CODEC} of big_vision (gs://big_vision/paligemma/"
            f"{MASK_CODEC}): put it into a folder and set $PGJAX_CHECKPOINTS to it."
        )
    return path


def _packaged(filename: str) -> pathlib.Path:
    return pathlib.Path(str(importlib.resources.files("pgjax.checkpoints") / filename))
