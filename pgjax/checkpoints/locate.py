"""Where checkpoints and the files beside them lie: packaged, at a path, released, downloaded."""

import importlib.resources
import os
import pathlib
import re

from pgjax.checkpoints import hub, released, remote
from pgjax.checkpoints.split_file import find_npz
from pgjax.errors import UserError

FOLDER_VARIABLE = "PGJAX_CHECKPOINTS"
PACKAGED = {"tiny": "tiny.npz"}
TOKENIZER = "paligemma_tokenizer.model"
MASK_CODEC = "vae-oid.npz"
_REPO = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", re.ASCII)
_HUB = "hf://"


def find_checkpoint(name: str) -> pathlib.Path:
    """Returns the file or folder of a checkpoint.

    A released name is looked for in the folder that $PGJAX_CHECKPOINTS names, then downloaded.

    Args:
      name: a packaged name (`tiny`), a path, a released name, a repository of the Hugging Face hub
        (`user/model`, `user/model@revision`, `hf://user/model@revision/file`), or a URL that
        fsspec reads (`gs://`, `s3://`), which is copied into a cache. An `.npz` may lie in parts,
        `NAME.npz.part*`, of which the first is returned.

    Raises:
      UserError: nothing is there, or not all of it; the message says where it was looked for.
    """
    if name in PACKAGED:
        return _packaged(PACKAGED[name])
    if name.startswith(_HUB):
        return _from_hub_url(name)
    if is_remote(name):
        return remote.fetch(name)
    path = pathlib.Path(os.path.expanduser(name))
    if found := find_npz(path):
        return found
    repo = _REPO.fullmatch(name) if is_repository(name) else None
    release = released.get(name) or (repo and released.of_repo(*repo.groups()))
    if release:
        return _in_folder(release) or hub.download(release)
    if repo:
        try:
            return hub.download_repo(repo[1], repo[2] or "main")
        except UserError as e:
            raise UserError(f"Checkpoint {name} is no path that exists, and {e}") from None
    if path.suffix == ".npz" or len(path.parts) > 1:
        raise UserError(f"Checkpoint {name} does not exist.")
    raise UserError(
        f"Checkpoint {name!r} is neither a path nor a released name. {released.hint(name)}"
    )


def is_here(release: released.Release) -> bool:
    """Whether a released checkpoint is in the folder that $PGJAX_CHECKPOINTS names."""
    return _in_folder(release) is not None


def is_remote(name: str) -> bool:
    """Whether a checkpoint's name is a URL."""
    return "://" in name


def is_repository(name: str) -> bool:
    """Whether a name may be that of a repository of the Hugging Face hub."""
    return bool(_REPO.fullmatch(name)) and not name.endswith(".npz")


def _from_hub_url(url: str) -> pathlib.Path:
    """Downloads what `hf://user/model@revision/file` names; revision and file may be left out."""
    user, _, rest = url.removeprefix(_HUB).partition("/")
    repo, _, inside = rest.partition("/")
    match = _REPO.fullmatch(f"{user}/{repo}")
    if not match or ".." in inside.split("/"):
        raise UserError(f"Checkpoint {url} is not of the form hf://user/model@revision/file.")
    return hub.download_repo(match[1], match[2] or "main", inside.strip("/"))


def _in_folder(release: released.Release) -> pathlib.Path | None:
    return next(filter(None, (find_released(file) for file in release.files)), None)


def find_released(filename: str) -> pathlib.Path | None:
    """Returns a file or folder in the folder that $PGJAX_CHECKPOINTS names, or None."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return find_npz(pathlib.Path(folder) / filename) if folder else None


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
        $PGJAX_CHECKPOINTS or downloaded.

    Raises:
      UserError: the released one is not there and cannot be downloaded.
    """
    if tiny:
        return _packaged("tiny_vae.npz")
    return find_released(MASK_CODEC) or hub.download_mask_codec(MASK_CODEC)


def _packaged(filename: str) -> pathlib.Path:
    return pathlib.Path(str(importlib.resources.files("pgjax.checkpoints") / filename))
