"""Tables with an image in each row: imagefolder's metadata, parquet, saved data sets, WebDataset.

A row's columns are understood by their names, as Hugging Face's image data sets have them:
`prefix` and `suffix`; or `question` and `answer`; or `text`, `caption` or `captions`; or `objects`
with `bbox` (x, y, width, height in pixels) and `category`, `categories`, `label` or `labels`.
"""

import csv
import io
import itertools
import json
import pathlib
import tarfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pgjax.data.arrow_files import iterate_rows
from pgjax.data.dataset_folder import find_splits
from pgjax.data.importers.annotated import (
    AnnotatedImage,
    AnnotatedObject,
    Import,
    numbers,
    pixel_box,
    read_text,
)
from pgjax.data.importers.orientation import read_header
from pgjax.data.tar_index import split_name
from pgjax.data.webdataset_source import MOST_BYTES, image_in, row_of
from pgjax.errors import DataError, UserError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
CAPTION = "caption en"  # the prompt of captions, as the released models know it

Row = Mapping[str, Any]


def fill_from_row(image: AnnotatedImage, row: Row, header: Callable[[], tuple[int, int]]) -> None:
    """Adds to an image what its row says.

    Args:
      image: gets texts or objects.
      row: values by column.
      header: returns the image's size, which boxes need.

    Raises:
      DataError: no column is understood.
    """
    first = {k: row[k] for k in row if row[k] not in (None, "")}
    if isinstance(objects := first.get("objects"), dict | list):
        image.size, image.objects = header(), []
        image.objects += _objects(objects, image.size)
    elif "suffix" in first:
        image.texts.append({"prefix": str(first.get("prefix", CAPTION)), **_text(first["suffix"])})
    elif "question" in first and ("answer" in first or "answers" in first):
        answer = first.get("answer", first.get("answers"))
        image.texts.append({"prefix": f"answer en {first['question']}", **_text(answer)})
    else:
        for key in ("text", "caption", "captions"):
            if key in first:
                image.texts.append({"prefix": CAPTION, **_text(first[key])})
                return
        raise DataError(
            f"has the columns {sorted(map(str, row))}, expected suffix, text, caption, question "
            "and answer, or objects."
        )


def _text(value: Any) -> dict[str, Any]:
    """One reference as the target; of several, the first, and all as `answers`."""
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return {"suffix": value[0], "answers": value}
    if isinstance(value, str):
        return {"suffix": value}
    raise DataError(f"has a text that is a {type(value).__name__}, expected text.")


def _objects(objects: Any, size: tuple[int, int]) -> Iterator[AnnotatedObject]:
    if isinstance(objects, list):  # a list of objects, instead of an object of lists
        keys = {key for one in objects if isinstance(one, dict) for key in one}
        objects = {k: [one.get(k) for one in objects if isinstance(one, dict)] for k in keys}
    named = [k for k in ("categories", "category", "labels", "label", "name") if k in objects]
    boxes = objects.get("bbox", objects.get("bboxes"))
    if not named or not isinstance(boxes, list) or not isinstance(objects[named[0]], list):
        raise DataError(f"has objects with {sorted(objects)}, expected lists bbox and categories.")
    if len(boxes) != len(objects[named[0]]):
        raise DataError(f"has {len(boxes)} boxes and {len(objects[named[0]])} {named[0]}.")
    for box, label in zip(boxes, objects[named[0]], strict=True):
        x, y, width, height = numbers(box, 4, "bbox")
        yield AnnotatedObject(label, pixel_box(y, x, y + height, x + width, size))


# ---- imagefolder ---------------------------------------------------------------------------------


def metadata_file(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the metadata of a folder in the form of Hugging Face's imagefolder, or None."""
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def read_imagefolder(given: Import) -> Iterator[AnnotatedImage]:
    """Yields the images of a folder with metadata.csv, metadata.jsonl or metadata.parquet."""
    path = metadata_file(given.source) if given.source.is_dir() else given.source
    assert path is not None
    for number, row in _metadata(path, given):
        with given.report.leaving_out(f"{path.name}:{number}"):
            name = row.get("file_name")
            if not isinstance(name, str):
                raise DataError(f"has no file_name; the columns are {sorted(map(str, row))}.")
            image = AnnotatedImage(given.find_image(name))
            fill_from_row(image, row, lambda f=image.file: read_header(given.images / f).stored)
            yield image


def _metadata(path: pathlib.Path, given: Import) -> Iterator[tuple[int, Row]]:
    if path.suffix == ".parquet":
        yield from enumerate(iterate_rows(str(path)), 1)
    elif path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(read_text(path), newline=""))
        for row in rows:
            yield rows.line_num, {k: _from_csv(v) for k, v in row.items() if k is not None}
    else:
        for number, line in enumerate(read_text(path).split("\n"), 1):
            if line.strip():
                with given.report.leaving_out(f"{path.name}:{number}"):
                    yield number, _json_object(line)


def _from_csv(value: Any) -> Any:
    """A cell; objects stand in CSV as JSON."""
    if isinstance(value, str) and value.startswith(("{", "[")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _json_object(text: str | bytes) -> Row:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise DataError(f"is not JSON ({e}).") from None
    if not isinstance(row, dict):
        raise DataError(f"is a {type(row).__name__}, expected an object.")
    return row


# ---- parquet, and data sets as `datasets` saves them ---------------------------------------------


def read_arrow(given: Import) -> Iterator[AnnotatedImage]:
    """Yields the rows of parquet files, or of a folder that `Dataset.save_to_disk` wrote.

    Raises:
      UserError: a file cannot be read, or pyarrow is not installed.
    """
    rows = itertools.chain.from_iterable(map(iterate_rows, _arrow_files(given)))
    for number, row in enumerate(rows):
        with given.report.leaving_out(f"row {number}"):
            picture = row.get("image", row.get("img"))
            if not isinstance(picture, dict) or not (picture.get("bytes") or picture.get("path")):
                raise DataError("has no image with bytes or a path.")
            row = {k: v for k, v in row.items() if k not in ("image", "img")}
            data = picture.get("bytes")
            if data is None:
                image = AnnotatedImage(given.find_image(str(picture["path"])))
                header = read_header(given.images / image.file)
            else:
                header = read_header(data)
                image = AnnotatedImage(f"{number:08}{_suffix(data)}", data=data)
            fill_from_row(image, row, lambda size=header.stored: size)
            yield image


def _arrow_files(given: Import) -> list[str]:
    splits = find_splits(str(given.source))
    if (found := splits.get("", splits.get(given.split))) is None:
        raise UserError(f"{given.source} has no split {given.split!r}, it has {sorted(splits)}.")
    return found


# ---- WebDataset ----------------------------------------------------------------------------------


def read_webdataset(given: Import) -> Iterator[AnnotatedImage]:
    """Yields the samples of a tar, whose files share their name up to the first dot.

    A sample has an image, and `.txt` (a caption) or `.json` (columns).

    Raises:
      UserError: the tar cannot be read.
    """
    try:
        with tarfile.open(given.source, "r|*") as tar:
            sample: dict[str, bytes] = {}
            last = ""
            for member in tar:
                key, kind = split_name(member.name)
                if not member.isfile() or not key:
                    continue
                if key != last and sample:
                    yield from _sample(last, sample, given)
                    sample = {}
                last = key
                if member.size > MOST_BYTES:
                    given.report.left_out.append(f"{member.name}: has {member.size:,} bytes")
                elif (file := tar.extractfile(member)) is not None:
                    sample[kind] = file.read()
            if sample:
                yield from _sample(last, sample, given)
    except (OSError, EOFError, tarfile.TarError) as e:
        raise UserError(f"{given.source} is not a tar that can be read ({e}).") from None


def _sample(key: str, sample: Mapping[str, bytes], given: Import) -> Iterator[AnnotatedImage]:
    with given.report.leaving_out(key.lstrip("/")):
        kind = image_in(sample)
        data = sample[kind]
        name = "_".join(part for part in key.split("/") if part not in ("", ".", ".."))
        image = AnnotatedImage(f"{name}.{kind}", data=data)
        header = read_header(data)
        fill_from_row(image, row_of(sample), lambda: header.stored)
        yield image


def _suffix(data: bytes) -> str:
    """The suffix that fits an image's first bytes."""
    starts = {b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}
    return next((suffix for start, suffix in starts.items() if data.startswith(start)), ".jpg")
