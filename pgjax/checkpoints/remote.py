"""Brings a checkpoint from `gs://`, `s3://` and whatever else fsspec reads to a local folder."""

import hashlib
import os
import pathlib
import posixpath

from pgjax.cache import cache_folder
from pgjax.errors import UserError, note

_SUFFIXES = (".json", ".safetensors", ".model", ".npz", ".bin")
_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "az": "adlfs", "abfs": "adlfs"}


def fetch(url: str) -> pathlib.Path:
    """Copies a remote file or folder into the cache, unless the cache has this very version.

    Args:
      url: of an `.npz`, or of a folder of Hugging Face or peft, without its subfolders.

    Returns:
      The path of the copy, in `$XDG_CACHE_HOME/pgjax`, or else in `~/.cache/pgjax`.

    Raises:
      UserError: nothing is there, it cannot be read, or the package for the protocol is missing.
    """
    import fsspec

    protocol = url.split("://")[0]
    try:
        system, path = fsspec.url_to_fs(url)
        if system.isfile(path):
            files = [path]
        else:
            files = [str(f) for f in system.ls(path, detail=False) if f.endswith(_SUFFIXES)]
        if not files:
            raise UserError(f"Checkpoint {url} holds none of {', '.join(_SUFFIXES)}.")
        sums = " ".join(f"{f} {system.checksum(f)}" for f in sorted(files))
        folder = cache_folder() / hashlib.sha256(f"{url} {sums}".encode()).hexdigest()[:24]
        name = posixpath.basename(url.rstrip("/"))
        target = folder / name
        if not target.exists():
            note(f"Copying {url} to {folder}.")
            part = folder / f"{name}.{os.getpid()}.part"
            if files == [path]:
                folder.mkdir(parents=True, exist_ok=True)
                system.get_file(path, str(part))
            else:
                part.mkdir(parents=True, exist_ok=True)
                for file in files:
                    system.get_file(file, str(part / posixpath.basename(file)))
            part.replace(target)
        return target
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"Checkpoint {url} does not exist.") from None
    except ImportError as e:
        package = _PACKAGES.get(protocol, e.name or "its fsspec package")
        raise UserError(
            f"Checkpoint {url} needs the Python package {package}; install it with "
            f"`pip install {package}`."
        ) from None
    except Exception as e:  # Each of fsspec's file systems has errors of its own.
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        raise UserError(f"Checkpoint {url} cannot be read ({reason}).") from None
