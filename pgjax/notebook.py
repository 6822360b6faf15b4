"""Which checkpoint a notebook uses: a released one where it can be had, or else `tiny`."""

import contextlib
import os
import pathlib
import shutil

from pgjax.checkpoints import hub, locate, released
from pgjax.errors import UserError

SECRETS = ("HF_TOKEN", *hub.KAGGLE_KEYS)
_ACCELERATORS = ("accel*", "vfio/[0-9]*")  # TPUs, in /dev


def checkpoint_or_tiny(name: str) -> str:
    """Returns the name of a checkpoint, or `tiny` where a GPU or a licence token is missing.

    Colab's Secrets `HF_TOKEN`, `KAGGLE_USERNAME` and `KAGGLE_KEY` become environment variables, so
    that commands in cells find them as well. What is missing is printed, with how to get it. The
    accelerator is looked for without JAX, which would take its memory.

    Args:
      name: as for `pgjax.load`; one that needs no licence is returned as it is.

    Raises:
      UserError: the name is not that of a checkpoint.
    """
    if not isinstance(name, str) or not name:
        raise UserError(f"name is {name!r}, expected the name of a checkpoint such as 'mix-224'.")
    if name in locate.PACKAGED:
        return name
    _read_secrets()
    release = released.get(name)
    if release is None and not (locate.is_remote(name) or pathlib.Path(name).exists()):
        if not locate.is_repository(name):
            raise UserError(f"There is no checkpoint {name!r}. {released.hint(name)}")
    missing = []
    if not _has_accelerator():
        missing.append(
            f"{name} needs a GPU, and there is none: in Colab, choose Runtime → Change runtime "
            "type → T4, and run all cells again."
        )
    if release and not locate.is_here(release) and not hub.can_authorize(release):
        missing.append(
            f"{name} needs a token: accept its licence at https://huggingface.co/{release.repo} "
            "and make a token that may read at https://huggingface.co/settings/tokens .\n"
            "Save it as HF_TOKEN in Colab's Secrets (the key on the left), with notebook access; "
            "elsewhere, run `hf auth login`. Then run all cells again."
        )
    for text in missing:
        print(text)
    print(f"This notebook goes on with {'the tiny checkpoint' if missing else name}.")
    return "tiny" if missing else name


def _read_secrets() -> None:
    try:
        from google.colab import userdata  # pyright: ignore[reportMissingImports]
    except ImportError:
        return  # not in Colab
    for name in SECRETS:
        # Secrets that are missing, or that this notebook may not read, raise errors of Colab's own.
        with contextlib.suppress(Exception):
            if value := userdata.get(name):
                os.environ[name] = value


def _has_accelerator() -> bool:
    devices = (path for pattern in _ACCELERATORS for path in pathlib.Path("/dev").glob(pattern))
    return shutil.which("nvidia-smi") is not None or any(True for _ in devices)
