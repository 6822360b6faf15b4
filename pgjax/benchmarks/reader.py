"""What a reader of a benchmark is, and helpers that several readers share."""

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
    """Returns the example; the `build` of a reader that has nothing to compute."""
    return example


@dataclasses.dataclass(frozen=True)
class Reader:
    """How the official files of a benchmark become examples.

    Attributes:
      about: what the benchmark is, and its paper, in one sentence.
      where: where to get the files, and how to lay out the folder.
      licence: the terms of annotations and of images.
      features: `{key: feature}` of an example.
      key: the feature that identifies an example in its split.
      splits: `{split: official number of examples}`; None where none is published.
      read: `(files, split) -> examples`. It reads annotations only, and names images by
        `files[name]`, which reads nothing yet. The order must depend on the files alone.
      build: `(example, **options) -> example`, for slow work on one example, such as decoding
        video. It runs in worker processes, so it must be a module's function.
      options: `{name: default}` of `build`, which become flags of `pgjax prepare NAME`.
      version: version of the data set, to be raised when examples change.
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
    """Rows by their id, which is the value at `key`.

    Raises:
      UserError: an id comes twice.
    """
    found: dict[Any, Mapping[str, Any]] = {}
    for row in rows:
        if found.setdefault(row[key], row) is not row:
            raise UserError(f"{key} {row[key]!r} comes twice, expected it once.")
    return found


def grouped(rows: Iterable[Mapping[str, Any]], key: str) -> dict[Any, list[Mapping[str, Any]]]:
    """Lists of rows by their value at `key`, in the order of the rows."""
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


def coco_image(files: Files, image_id: int, folder: str, year: str | None = None) -> Member:
    """Finds an image of COCO by its id, such as `val2014/COCO_val2014_000000000042.jpg`.

    Args:
      files: files of the source.
      image_id: the id that COCO gave it.
      folder: `train2014`, `val2014`, `test2015`, or `train2017`, whose file names have no prefix.
      year: the part of the file name after `COCO_`, where it is not the folder's name.
    """
    prefix = "" if folder.endswith("2017") else f"COCO_{year or folder}_"
    return files[f"{folder}/{prefix}{image_id:012}.jpg"]


def coco_captions(files: Files, name: str) -> Iterator[tuple[Mapping[str, Any], list[str]]]:
    """Yields each image of a file with COCO's `images` and `annotations`, with its captions."""
    known = "annotations" in files.json(name)
    captions = grouped(files.rows(name, "annotations") if known else (), "image_id")
    for image in files.rows(name, "images"):
        yield image, [row["caption"] for row in captions.get(image["id"], ())]


def clean_space(text: str) -> str:
    """Makes text one line: runs of white space become one space."""
    return " ".join(text.split())
