"""Which checkpoint a notebook uses: a released one where it can be had, or else `tiny`."""

import contextlib
import os
import pathlib
import shutil

from pgjax.checkpoints import hub, locate, released

SECRETS = ("HF_TOKEN", *hub.KAGGLE_KEYS)
_TPUS = ("accel*", "vfio/[0-9]*")  # in /dev


def checkpoint_or_tiny(name: str) -> str:
    """Returns the name of a checkpoint, or `tiny` where a GPU or a licence token is missing.

    What is missing is printed, with how to get it. Colab's Secrets `HF_TOKEN`, `KAGGLE_USERNAME`
    and `KAGGLE_KEY` become environment variables, so that commands in cells find them as well. GPUs
    and TPUs are looked for without JAX, which would take their memory from these commands.

    Args:
      name: as for `pgjax.load`; one that is not a released checkpoint is returned as it is.
    """
    _read_secrets()
    release = released.get(name)
    if release is None:
        return name
    missing = []
    if not _has_accelerator():
        missing.append(
            f"{name} needs a GPU, and there is none: in Colab, choose Runtime → Change runtime "
            "type → T4, and run all cells again."
        )
    if not locate.is_here(release) and not hub.can_authorize(release):
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
    tpus = (path for pattern in _TPUS for path in pathlib.Path("/dev").glob(pattern))
    return shutil.which("nvidia-smi") is not None or next(tpus, None) is not None
