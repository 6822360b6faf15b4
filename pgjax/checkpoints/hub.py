"""Downloads released checkpoints from the Hugging Face hub or Kaggle, and uploads exported ones."""

import hashlib
import importlib.util
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from pgjax.checkpoints import remote
from pgjax.checkpoints.released import Release
from pgjax.checkpoints.split_file import is_whole, npz_inside
from pgjax.errors import UserError, note

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo, SpaceInfo

PATTERNS = ("*.json", "*.safetensors", "tokenizer.model")
NPZ_PATTERNS = ("*.npz*",)  # with NAME.npz.part0, …
KAGGLE_KEYS = ("KAGGLE_USERNAME", "KAGGLE_KEY")  # environment variables
MASK_CODEC_SPACES = ("google/paligemma-hf", "big-vision/paligemma-hf")  # of the announcement
TOKENIZER_REPO = "google/paligemma-3b-pt-224"
TOKENIZER_URL = "https://storage.googleapis.com/big_vision/paligemma_tokenizer.model"  # not gated


def download(release: Release) -> pathlib.Path:
    """Downloads a release, unless the hub's cache has it; an interrupted download is resumed.

    Returns:
      The path of a folder with safetensors, or of an `.npz`.

    Raises:
      UserError: the licence is not accepted, there is no network, or a checksum is wrong; the
        message says what to do.
    """
    refused = UserError(f"{release.repo} does not exist on the Hugging Face hub.")
    try:
        for source in (_safetensors_from_hub, _npz_from_hub, _from_kaggle):
            try:
                if path := source(release):
                    return path
            except _NotThereError:
                continue
            except _GatedError as e:
                refused = e
        raise refused
    except UserError as e:
        raise UserError(
            f"The checkpoint {release.name!r} is not available: {e} Alternatively, put "
            f"{release.file} into a folder and set $PGJAX_CHECKPOINTS to it."
        ) from None


def download_tokenizer(filename: str) -> pathlib.Path:
    """Downloads Gemma's `tokenizer.model` from the hub, unless its cache has it.

    Where there is no token for the hub, it comes from big_vision's bucket.

    Args:
      filename: the name that the file has in `$PGJAX_CHECKPOINTS`, for messages.

    Raises:
      UserError: see `download`.
    """
    try:
        try:
            return _from_hub(TOKENIZER_REPO, "main", ("tokenizer.model",)) / "tokenizer.model"
        except _GatedError:
            if not _has_kaggle_keys():
                raise
            return remote.fetch(TOKENIZER_URL)
    except UserError as e:
        raise UserError(
            f"The tokenizer is not available: {e} Alternatively, put {filename} into a folder and "
            "set $PGJAX_CHECKPOINTS to it."
        ) from None


def download_repo(repo: str, revision: str, inside: str = "") -> pathlib.Path:
    """Downloads any repository with a checkpoint, unless the hub's cache has it.

    Args:
      repo: such as `user/model`.
      revision: a branch, tag or commit.
      inside: a file or folder of the repository, "" for the files at its top.

    Returns:
      The path of a folder of Hugging Face or peft, or of an `.npz`.

    Raises:
      UserError: as for `download`, or there is no checkpoint in it.
    """
    if inside:
        folder = _from_hub(repo, revision, (inside, *(f"{inside}/{p}" for p in PATTERNS)))
        if (folder / inside).exists():
            return folder / inside
        raise UserError(f"{repo} ({revision}) holds no {inside}.")
    folder = _from_hub(repo, revision, PATTERNS)
    if any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        return folder
    folder = _from_hub(repo, revision, NPZ_PATTERNS)
    if file := npz_inside(folder):
        return file
    raise UserError(f"{repo} ({revision}) holds neither a config.json nor an .npz.")


def download_mask_codec(filename: str) -> pathlib.Path:
    """Downloads the codec of masks from the Space of PaliGemma's announcement.

    It is compared with the SHA-256 that the hub lists for it.

    Raises:
      UserError: see `download`.
    """
    for space in MASK_CODEC_SPACES:
        try:
            return _from_hub(space, "main", (filename,), kind="space") / filename
        except _NotThereError:
            continue
        except UserError as e:
            reason = str(e)
            break
    else:
        reason = f"{MASK_CODEC_SPACES[0]} does not exist on the Hugging Face hub."
    raise UserError(
        f"Masks need the codec {filename} of big_vision, which is not available: {reason} "
        f"Alternatively, put the file (gs://big_vision/paligemma/{filename}) into a folder and set "
        "$PGJAX_CHECKPOINTS to it."
    )


class _NotThereError(UserError):
    """The repository or branch does not exist."""


class _GatedError(UserError):
    """The repository asks for a token of someone who has accepted its licence."""


def can_authorize(release: Release) -> bool:
    """Whether there is a token of the hub, or keys of Kaggle, with which to ask for a release."""
    import huggingface_hub as hub

    return bool(hub.get_token()) or _has_kaggle_keys()


def _has_kaggle_keys() -> bool:
    if importlib.util.find_spec("kagglehub") is None:
        return False
    file = pathlib.Path("~/.kaggle/kaggle.json").expanduser()
    return all(os.environ.get(key) for key in KAGGLE_KEYS) or file.exists()


def _safetensors_from_hub(release: Release) -> pathlib.Path:
    return _from_hub(release.repo, release.branch, PATTERNS)


def _npz_from_hub(release: Release) -> pathlib.Path | None:
    return npz_inside(_from_hub(f"{release.repo}-jax", release.branch, NPZ_PATTERNS))


def _from_kaggle(release: Release) -> pathlib.Path | None:
    if not _has_kaggle_keys():
        return None
    import kagglehub  # pyright: ignore[reportMissingImports]

    handle, path = release.kaggle, None if release.split else release.file
    found = _explained(handle, lambda: pathlib.Path(kagglehub.model_download(handle, path)))
    return npz_inside(found) if found.is_dir() else found


def _from_hub(
    repo: str, branch: str, patterns: tuple[str, ...], kind: str = "model"
) -> pathlib.Path:
    import huggingface_hub as hub

    def fetch() -> pathlib.Path:
        options = {"revision": branch, "allow_patterns": list(patterns), "repo_type": kind}
        try:  # A complete copy in the cache needs neither the network nor checks.
            folder = pathlib.Path(hub.snapshot_download(repo, local_files_only=True, **options))
            if any(folder.glob(patterns[0])):
                npz = npz_inside(folder) if patterns == NPZ_PATTERNS else None
                if npz is None or is_whole(npz):  # the cache may hold some of the parts
                    return folder
        except hub.errors.LocalEntryNotFoundError:
            pass
        note(f"Downloading {repo} ({branch}) from the Hugging Face hub.")
        folder = pathlib.Path(hub.snapshot_download(repo, **options))
        info = hub.HfApi().space_info if kind == "space" else hub.HfApi().model_info
        _check_sums(folder, info(repo, revision=branch, files_metadata=True))
        return folder

    return _explained(repo, fetch)


def _check_sums(folder: pathlib.Path, info: "ModelInfo | SpaceInfo") -> None:
    """Compares large files with the SHA-256 that the hub lists, and removes damaged ones."""
    for sibling in info.siblings or ():
        path = folder / sibling.rfilename
        if sibling.lfs is None or not path.exists():
            continue
        with path.open("rb") as f:
            got = hashlib.file_digest(f, "sha256").hexdigest()
        if got != sibling.lfs.sha256:
            path.resolve().unlink()
            path.unlink()
            raise UserError(
                f"{sibling.rfilename} of {info.id} has SHA-256 {got[:12]}…, but the hub lists "
                f"{sibling.lfs.sha256[:12]}…; the damaged file is removed, so run this again."
            )


def _explained(repo: str, fetch: Callable[[], pathlib.Path]) -> pathlib.Path:
    """Runs a download, and describes its errors in one sentence."""
    from huggingface_hub import errors

    try:
        return fetch()
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as e:
        if getattr(e.response, "status_code", None) not in (401, 403):
            raise _NotThereError(f"{repo} does not exist on the Hugging Face hub.") from None
        raise _GatedError(
            f"{repo} requires that you accept its licence. 1. Accept it with your account at "
            f"https://huggingface.co/{repo} . 2. Run `hf auth login`, or set HF_TOKEN to a token "
            "of that account."
        ) from None
    except UserError:
        raise
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise UserError(
            f"{repo} is not in the cache of the Hugging Face hub, and the hub cannot be reached; "
            "connect this machine to the network (and unset HF_HUB_OFFLINE, if it is set), and run "
            "the command again."
        ) from None
    except Exception as e:
        if not _of_transport(e):
            raise
        raise UserError(
            f"{repo} could not be downloaded ({_reason(e)}); run the command again to resume the "
            "download."
        ) from None


def create_repository(repo: str) -> None:
    """Creates a repository of the hub, unless it exists; so a missing token is noticed early.

    Raises:
      UserError: the hub refuses, or cannot be reached.
    """
    import huggingface_hub as hub

    try:
        hub.create_repo(repo, exist_ok=True)
    except Exception as e:
        if not _of_transport(e):
            raise
        raise UserError(
            f"The repository {repo} cannot be created on the Hugging Face hub ({_reason(e)}); log "
            "in with `hf auth login`, or set HF_TOKEN to a token that may write."
        ) from None


def upload(folder: pathlib.Path, repo: str) -> None:
    """Uploads a folder to a repository of the hub, which is created if need be.

    Raises:
      UserError: the hub refuses, or cannot be reached.
    """
    import huggingface_hub as hub

    try:
        create_repository(repo)
        hub.upload_folder(repo_id=repo, folder_path=folder)
    except UserError as e:
        raise UserError(f"{folder} is written, but not pushed to {repo}: {e}") from None
    except Exception as e:
        if not _of_transport(e):
            raise
        raise UserError(f"{folder} is written, but not pushed to {repo} ({_reason(e)}).") from None


def _of_transport(e: Exception) -> bool:
    """Says whether an error is of the hub, the network or the disk, and not of pgjax."""
    from huggingface_hub import errors

    # The transport's errors depend on the version of the hub's client.
    library = type(e).__module__.split(".")[0]
    return isinstance(
        e, (errors.HfHubHTTPError, errors.HFValidationError, OSError, RuntimeError)
    ) or (library in ("httpx", "httpcore", "requests", "hf_xet"))


def _reason(e: Exception) -> str:
    """The whole message of an error in one line."""
    return " ".join(str(e).split()).rstrip(".") or type(e).__name__
