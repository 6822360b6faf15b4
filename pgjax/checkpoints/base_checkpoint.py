"""Finds the checkpoint beneath a run, a delta or an adapter, wherever it lies by now.

Each of them records the base by the name that it was given, by its path, and by a checksum, so that
a folder that was moved, copied to another machine or renamed still finds it.
"""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import zipfile
from collections.abc import Iterator

from etils import epath

from pgjax.checkpoints import released
from pgjax.checkpoints.locate import FOLDER_VARIABLE, PACKAGED, is_remote, is_repository
from pgjax.checkpoints.split_file import open_file
from pgjax.errors import UserError

_SAMPLE = 2**16  # bytes of each end of a safetensors file that its checksum covers


@dataclasses.dataclass(frozen=True)
class BaseRecord:
    """What is recorded of a base.

    Attributes:
      name: as it was given: a released name, a path, or a repository.
      path: its absolute path when it was recorded, "" for what is no path.
      checksum: from `checksum`, "" where none was recorded.
    """

    name: str
    path: str = ""
    checksum: str = ""


def record_base(name: str) -> BaseRecord:
    """Returns what to record of a base that can be opened now."""
    if not name or name in PACKAGED or is_remote(name):
        return BaseRecord(name)
    path = pathlib.Path(name).expanduser()
    if not path.exists():
        return BaseRecord(name)
    return BaseRecord(name, str(path.absolute()), checksum(path))


def find_base(record: BaseRecord, beside: pathlib.Path) -> str:
    """Returns the name under which a recorded base can be opened.

    It is looked for by its name, at its recorded path, by its name beside what needs it and in
    $PGJAX_CHECKPOINTS, and then under any name in these folders by its checksum.

    Args:
      record: what was recorded of it.
      beside: the folder or file that needs it.

    Raises:
      UserError: it is in none of these places; the message names them, and files of its name
        with other contents.
    """
    name = record.name
    if name in PACKAGED or is_remote(name):
        return name
    here = beside.resolve()
    places = list(dict.fromkeys(_places(record, beside)))
    found = [path for path in places if path.exists() and path.resolve() != here]
    same = [path for path in found if _fits(path, record)]
    if not same and (released.get(name) or (not record.path and is_repository(name))):
        return name
    if not same and record.checksum:
        folders = dict.fromkeys(path.parent for path in places)
        inside = (path for folder in folders for path in _inside(folder))
        same = [path for path in inside if path.resolve() != here and _fits(path, record)]
    if same:
        return str(same[0])
    looked = ", ".join(map(str, dict.fromkeys(path.parent.absolute() for path in places)))
    other = f"{found[0]} has other contents than that base; " if found else ""
    raise UserError(
        f"{beside} goes on top of {name}, which is not found in {looked}; {other}give the base "
        f"(base=, or --base), or put it into a folder and set ${FOLDER_VARIABLE} to it."
    )


def checksum(path: pathlib.Path) -> str:
    """Returns a checksum of a checkpoint that takes no reading of all of it, "" if there is none.

    It covers the checksums that an `.npz` holds of all its arrays; of each safetensors file the
    header, the size and both ends; and the config and manifest of a run directory.
    """
    found = hashlib.sha256()
    try:
        if path.is_file():
            with open_file(epath.Path(path)) as f, zipfile.ZipFile(f) as members:
                for info in sorted(members.infolist(), key=lambda x: x.filename):
                    found.update(f"{info.filename} {info.CRC} {info.file_size}\n".encode())
            return found.hexdigest()
        files = sorted(path.glob("*.safetensors"))
        for file in files:
            _add_ends(found, file)
        for file in [] if files else [path / "run.json", path / "config.json"]:
            found.update(file.read_bytes())
    except (OSError, zipfile.BadZipFile):
        return ""
    return found.hexdigest()


def _add_ends(found: "hashlib._Hash", file: pathlib.Path) -> None:
    size = file.stat().st_size
    found.update(f"{file.name} {size}\n".encode())
    with file.open("rb") as f:
        head = int.from_bytes(f.read(8), "little")
        found.update(f.read(min(head, size) + _SAMPLE))
        f.seek(max(0, size - _SAMPLE))
        found.update(f.read())


def _places(record: BaseRecord, beside: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the paths at which a base of its name may lie."""
    path = pathlib.Path(record.name).expanduser()
    yield path
    if record.path:
        yield pathlib.Path(record.path)
    if not path.is_absolute():
        yield beside / path
        yield beside.parent / path
    for folder in (beside, beside.parent, os.environ.get(FOLDER_VARIABLE)):
        if folder:
            yield pathlib.Path(folder) / path.name


def _fits(path: pathlib.Path, record: BaseRecord) -> bool:
    return not record.checksum or checksum(path) == record.checksum


def _inside(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns what may be a checkpoint in a folder."""
    with contextlib.suppress(OSError):
        return sorted(p for p in folder.iterdir() if p.suffix == ".npz" or p.is_dir())
    return []
