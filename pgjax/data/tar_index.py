"""Where the files of a WebDataset tar lie in it, found once and kept in the cache.

Files that share their name up to the first dot of its last part are one sample, and lie together;
what follows the dot says what a file is.
"""

import contextlib
import dataclasses
import hashlib
import io
import os
import tarfile
from typing import NamedTuple

import numpy as np

from pgjax.cache import cache_folder
from pgjax.data.source_files import open_file, reason, refuse_start, version_of
from pgjax.errors import UserError

_FORMAT = 1  # of the files in the cache


class Member(NamedTuple):
    """A file in a tar: what follows the first dot of its name, and its bytes' place."""

    kind: str
    start: int
    size: int


@dataclasses.dataclass(frozen=True)
class TarIndex:
    """The samples of a tar.

    Attributes:
      path: the tar.
      keys: [n] names of the samples, in UTF-8.
      firsts: [n + 1] where the members of each sample begin, and the number of members.
      starts: [m] where each member's bytes begin.
      sizes: [m] how many they are.
      kinds: [m] what each member is, as an index of `names`.
      names: all that members are, such as `jpg` and `json`.
    """

    path: str
    keys: np.ndarray
    firsts: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    kinds: np.ndarray
    names: list[str]

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.keys)

    def key(self, index: int) -> str:
        """The name of a sample."""
        return bytes(self.keys[index]).decode("utf-8", "backslashreplace")

    def members(self, index: int) -> list[Member]:
        """The files of a sample, in their order in the tar."""
        return [
            Member(self.names[int(self.kinds[i])], int(self.starts[i]), int(self.sizes[i]))
            for i in range(int(self.firsts[index]), int(self.firsts[index + 1]))
        ]


def split_name(name: str) -> tuple[str, str]:
    """Returns the key and the kind of a file's name in a tar; "" and "" for none of a sample."""
    folder, slash, last = name.rpartition("/")
    stem, _, kind = last.partition(".")
    return (f"{folder}{slash}{stem}", kind.lower()) if stem and kind else ("", "")


def index_of(path: str) -> TarIndex:
    """Returns the samples of a tar, from the cache if they are there.

    Raises:
      UserError: it is compressed, damaged or no tar, or the files of a sample do not lie together.
    """
    try:
        version = version_of(path)
        with open_file(path) as f:
            refuse_start(f.read(6), path, path, "a tar that is not compressed")
    except UserError:
        raise
    except Exception as e:  # of the operating system, or one of fsspec's file systems
        raise UserError(f"{path} cannot be read ({reason(e)}).") from e
    name = hashlib.sha256(f"{_FORMAT} {version}".encode()).hexdigest()[:24]
    kept = cache_folder() / "tar" / f"{name}.npz"
    try:
        with np.load(io.BytesIO(kept.read_bytes())) as stored:
            arrays = dict(stored)
        return TarIndex(path, names=arrays.pop("names").tolist(), **arrays)
    except Exception:  # not there, or damaged in whatever way
        index = _build(path)
    arrays = {f.name: getattr(index, f.name) for f in dataclasses.fields(index)}
    del arrays["path"]
    part = kept.with_suffix(f".{os.getpid()}.part")
    data = io.BytesIO()
    np.savez(data, **arrays)
    with contextlib.suppress(OSError):  # without a cache, the tar is gone through again
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data.getbuffer())
            part.replace(kept)
        finally:
            part.unlink(missing_ok=True)
    return index


def _build(path: str) -> TarIndex:
    keys: dict[str, None] = {}
    firsts: list[int] = []
    members: list[tuple[int, int, int]] = []
    names: dict[str, int] = {}
    key, end = "", 0
    try:
        with open_file(path) as f, tarfile.open(fileobj=f, mode="r:") as tar:
            members_read: list[tarfile.TarInfo] = vars(tar)["members"]
            while (member := tar.next()) is not None:
                members_read.clear()  # which would fill the memory
                own, kind = split_name(member.name)
                if not member.isreg() or not own or own.rpartition("/")[2].startswith("._"):
                    continue
                if member.issparse():
                    raise UserError(f"{path}: {member.name} is a sparse file, which is not read.")
                if own != key:
                    if own in keys:
                        raise UserError(
                            f"{path}: the files of {own!r} do not lie together; pack them again "
                            "with tar --sort=name."
                        )
                    keys[own] = None
                    firsts.append(len(members))
                    key = own
                place = (names.setdefault(kind, len(names)), member.offset_data, member.size)
                members.append(place)
                end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            f.seek(end)
            if f.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise UserError(f"{path} is cut short: it lacks the mark of a tar's end.")
    except UserError:
        raise
    except Exception as e:
        raise UserError(f"{path} is not a tar that can be read ({reason(e)}).") from e
    table = np.array(members, np.int64).reshape(-1, 3)
    return TarIndex(
        path,
        keys=np.array([k.encode("utf-8", "surrogateescape") for k in keys], np.bytes_),
        firsts=np.array([*firsts, len(members)], np.int64),
        kinds=table[:, 0].astype(np.int32),
        starts=table[:, 1],
        sizes=table[:, 2],
        names=list(names),
    )
