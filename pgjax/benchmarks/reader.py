"""What a reader is, and helpers that several readers share."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pgjax.benchmarks.official_files import Files, Member
from pgjax.errors import UserError

# Features, beside str, int, float, bool, [feature] and {key: feature}:
IMAGE = "image"
BOX = "box"  # (y0, x0, y1, x1) as fractions of height and width

Example = dict[str, Any]


def as_it_is(example: Example) -> Example:
    """The `build` of a reader that has nothing to compute."""
    return example


@dataclasses.dataclass(frozen=True)
class Reader:
    """How the official files of a benchmark become examples.

    Attributes:
      about: one sentence: what it is, and the paper.
      where: where the files are to be had, one a line, and how the folder is to look.
      licence: which terms apply, to annotations and to images.
      features: `{key: feature}` of an example.
      key: the feature that identifies an example within its split.
      splits: `{split: official number of examples}`; None where none is published.
      read: `(files, split) -> examples`. Cheap: it reads annotations only, and names images by
        `files[name]`, which reads nothing yet. The order must not depend on anything but the files.
      build: `(example, **options) -> example`: work on one example that takes time, such as video
        frames. Runs in worker processes, so it must be a function of a module.
      options: `{name: default}`, flags of prepare.py that are handed to `build`.
      version: of the data set; raise it when examples change.
    """

    about: str
    where: str
    licence: str
    features: Mapping[str, Any]
    key: str
    splits: Mapping[str, int | None]
    read: Callable[[Files, str], Iterable[Example]]
    build: Callable[..., Example] = as_it_is
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    version: str = "1.0.0"


def by_id(rows: Iterable[Mapping[str, Any]], key: str = "id") -> dict[Any, Mapping[str, Any]]:
    """`{id: row}` of rows with an id each.

    Raises:
      UserError: an id that comes twice.
    """
    found: dict[Any, Mapping[str, Any]] = {}
    for row in rows:
        if found.setdefault(row[key], row) is not row:
            raise UserError(f"{key} {row[key]!r} comes twice, expected it once.")
    return found


def grouped(rows: Iterable[Mapping[str, Any]], key: str) -> dict[Any, list[Mapping[str, Any]]]:
    """`{value of key: rows that have it}`, in the order of the rows."""
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


def coco_image(files: Files, image_id: int, folder: str, year: str | None = None) -> Member:
    """An image of COCO by its id: `val2014/COCO_val2014_000000000042.jpg`.

    Args:
      files: of the source.
      image_id: COCO's.
      folder: `train2014`, `val2014`, `test2015`, or `train2017`, whose names have no prefix.
      year: in the name, where it is not the folder's.
    """
    prefix = "" if folder.endswith("2017") else f"COCO_{year or folder}_"
    return files[f"{folder}/{prefix}{image_id:012}.jpg"]


def coco_captions(content: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], list[str]]]:
    """(image, its captions) of a file with COCO's `images` and `annotations`."""
    captions = grouped(content.get("annotations", ()), "image_id")
    for image in content["images"]:
        yield image, [row["caption"] for row in captions.get(image["id"], ())]


def clean_space(text: str) -> str:
    """Text in one line: runs of white space become one space."""
    return " ".join(text.split())
