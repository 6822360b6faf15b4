"""The files of a data set in the forms of Hugging Face's library `datasets`, by split.

A folder is what `save_to_disk` wrote, of one split or of several, or holds parquet or arrow files
whose names, or whose folders' names, say the split, as repositories and the library's cache do.
"""

import json
import pathlib
import re
from typing import Any

from pgjax.data.source_files import find_files, shown
from pgjax.errors import UserError

SUFFIXES = (".parquet", ".arrow")
# The words by which `datasets` knows a split in the names of files and folders.
_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}")


def find_splits(fname: str) -> dict[str, list[str]]:
    """Returns the parquet or arrow files of a data set by split, "" where splits have no names.

    Args:
      fname: a folder, a file, or a pattern of files.

    Raises:
      UserError: there is none, or a folder whose files are of several data sets.
    """
    found = find_files(fname)
    if len(found) == 1 and pathlib.Path(found[0]).is_dir():
        return _of_folder(pathlib.Path(found[0]))
    for path in found:
        if not path.endswith(SUFFIXES):
            raise UserError(
                f"{shown(path)} is no file {' or '.join(SUFFIXES)}; expected such files, or one "
                "local folder of them."
            )
    return {"": found}


def _of_folder(folder: pathlib.Path) -> dict[str, list[str]]:
    if (folder / "dataset_dict.json").is_file():
        splits = _json(folder / "dataset_dict.json").get("splits")
        if not isinstance(splits, list) or not splits:
            raise UserError(f"{folder / 'dataset_dict.json'} names no splits.")
        return {str(name): _saved(folder / str(name)) for name in splits}
    if (folder / "state.json").is_file():
        return {"": _saved(folder)}
    if not (files := tables_in(folder)):
        raise UserError(f"{folder} holds no file {' or '.join(SUFFIXES)}.")
    sets: dict[str, dict[str, list[str]]] = {}
    for path in files:
        name, split = _place(path.relative_to(folder))
        sets.setdefault(name, {}).setdefault(split, []).append(str(path))
    if len(sets) > 1:
        raise UserError(f"{folder} holds the data sets {sorted(sets)}; give the folder of one.")
    (splits,) = sets.values()
    if len(splits) > 1 and "" in splits:
        raise UserError(
            f"{folder} holds files of the splits {sorted(filter(None, splits))}, but "
            f"{splits[''][0]} belongs to none; give the files by a pattern."
        )
    return splits


def tables_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The parquet and arrow files of a folder, without those that `datasets` makes on the way."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix in SUFFIXES and not path.name.startswith((".", "cache-"))
    ]


def _saved(folder: pathlib.Path) -> list[str]:
    """The files of a folder that `Dataset.save_to_disk` wrote, in their order."""
    state = _json(folder / "state.json")
    if state.get("_indices_data_files"):
        raise UserError(
            f"{folder} picks rows by _indices_data_files, which are not read; save the data set "
            "again, after flatten_indices()."
        )
    try:
        files = [str(folder / one["filename"]) for one in state["_data_files"]]
    except (KeyError, TypeError):
        raise UserError(f"{folder / 'state.json'} names no _data_files.") from None
    return files


def _json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{path} cannot be read ({e}).") from None
    return content if isinstance(content, dict) else {}


def _place(path: pathlib.Path) -> tuple[str, str]:
    """The data set and the split of a file, by its path in the folder."""
    shard = _SHARD.fullmatch(path.stem)
    folders = [part for part in path.parts[:-1] if part != "data"]
    split = shard[1] if shard and path.parent.name == "data" else _split_in(path.stem)
    for part in reversed(folders):
        if not split and (split := _split_in(part)):
            folders.remove(part)
    return "/".join(folders), split


def _split_in(name: str) -> str:
    words = re.split(r"[-._ 0-9]+", name.lower())
    return next((_WORDS[word] for word in words if word in _WORDS), "")
