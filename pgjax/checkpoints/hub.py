"""Downloads released checkpoints: from the Hugging Face hub, then Kaggle (needs kagglehub)."""

import hashlib
import importlib.util
import pathlib
from collections.abc import Callable

from pgjax.checkpoints.released import Release
from pgjax.errors import UserError, note

PATTERNS = ("*.json", "*.safetensors", "tokenizer.model")
NPZ_PATTERNS = ("*.npz",)
KAGGLE = "google/paligemma/jax/{}"
TOKENIZER_REPO = "google/paligemma-3b-pt-224"


def download(release: Release) -> pathlib.Path:
    """Downloads a release, or finds it in the hub's cache; an interrupted download goes on.

    Returns:
      A folder of safetensors, or an `.npz`.

    Raises:
      UserError: the licence is not accepted, no network, or a wrong checksum; with what to do.
    """
    try:
        for source in (_safetensors_from_hub, _npz_from_hub, _from_kaggle):
            try:
                if path := source(release):
                    return path
            except _NotThereError:
                continue
        raise UserError(f"{release.repo} does not exist on the Hugging Face hub.")
    except UserError as e:
        raise UserError(
            f"Checkpoint {release.name!r}: {e} Or put {release.file} into a folder and set "
            "$PGJAX_CHECKPOINTS to it."
        ) from None


def download_tokenizer(filename: str) -> pathlib.Path:
    """Gemma's `tokenizer.model` from the hub.

    Raises:
      UserError: see `download`.
    """
    try:
        return _from_hub(TOKENIZER_REPO, "main", ("tokenizer.model",)) / "tokenizer.model"
    except UserError as e:
        raise UserError(
            f"The tokenizer: {e} Or put {filename} into a folder and set $PGJAX_CHECKPOINTS to it."
        ) from None


class _NotThereError(UserError):
    """No such repository or branch."""


def _safetensors_from_hub(release: Release) -> pathlib.Path:
    return _from_hub(release.repo, release.branch, PATTERNS)


def _npz_from_hub(release: Release) -> pathlib.Path | None:
    if release.npz_repo is None:
        return None
    folder = _from_hub(release.npz_repo, release.branch, NPZ_PATTERNS)
    files = sorted(folder.glob("*.npz"))
    return files[0] if files else None


def _from_kaggle(release: Release) -> pathlib.Path | None:
    if release.npz_repo is None or importlib.util.find_spec("kagglehub") is None:
        return None
    import kagglehub

    handle = KAGGLE.format(release.file.split(".")[0])
    return pathlib.Path(_explained(handle, lambda: kagglehub.model_download(handle, release.file)))


def _from_hub(repo: str, branch: str, patterns: tuple[str, ...]) -> pathlib.Path:
    import huggingface_hub as hub

    def fetch() -> pathlib.Path:
        options = {"revision": branch, "allow_patterns": list(patterns)}
        try:  # what is whole in the cache needs neither network nor checks
            folder = pathlib.Path(hub.snapshot_download(repo, local_files_only=True, **options))
            if any(folder.iterdir()):
                return folder
        except hub.errors.LocalEntryNotFoundError:
            pass
        note(f"downloading {repo} ({branch}) from the Hugging Face hub")
        folder = pathlib.Path(hub.snapshot_download(repo, **options))
        _check_sums(folder, hub.HfApi().model_info(repo, revision=branch, files_metadata=True))
        return folder

    return _explained(repo, fetch)


def _check_sums(folder: pathlib.Path, info) -> None:
    """Compares large files with the SHA-256 that the hub lists; a wrong one is removed."""
    for sibling in info.siblings:
        path = folder / sibling.rfilename
        if sibling.lfs is None or not path.exists():
            continue
        with path.open("rb") as f:
            got = hashlib.file_digest(f, "sha256").hexdigest()
        if got != sibling.lfs.sha256:
            path.resolve().unlink()
            path.unlink()
            raise UserError(
                f"{sibling.rfilename} of {info.id} has SHA-256 {got[:12]}…, the hub lists "
                f"{sibling.lfs.sha256[:12]}…; it was damaged on the way and is removed, so run "
                "again."
            )


def _explained(repo: str, fetch: Callable) -> pathlib.Path:
    """Runs a download; what goes wrong becomes one sentence."""
    from huggingface_hub import errors

    try:
        return fetch()
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as e:
        if getattr(e.response, "status_code", None) not in (401, 403):
            raise _NotThereError(f"{repo} does not exist on the Hugging Face hub.") from None
        raise UserError(
            f"{repo} asks for a licence to be accepted. 1. Accept it with your account at "
            f"https://huggingface.co/{repo} . 2. Run `hf auth login`, or set HF_TOKEN to a token "
            "of that account."
        ) from None
    except UserError:
        raise
    except (errors.HfHubHTTPError, OSError, RuntimeError) as e:
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        raise UserError(
            f"{repo} could not be downloaded ({reason}); run again to go on where it stopped."
        ) from None
    except Exception as e:  # the transport's own errors differ between its versions
        if type(e).__module__.split(".")[0] not in ("httpx", "httpcore", "requests", "hf_xet"):
            raise
        reason = str(e) or type(e).__name__
        raise UserError(
            f"{repo} could not be downloaded ({reason}); run again to go on where it stopped."
        ) from None
