"""Roboflow's PaliGemma export: `_annotations.train.jsonl` beside its images.

Its lines are those of pgjax: `{"image": …, "prefix": "detect cat ; dog", "suffix": "<loc…> cat"}`.
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from pgjax.data.importers.annotated import AnnotatedImage, Import, read_text
from pgjax.errors import DataError, UserError
from pgjax.text.locations import clean_label, count_locations, format_boxes, parse_boxes

PATTERN = "_annotations*.jsonl"


def read_roboflow_jsonl(given: Import) -> Iterator[AnnotatedImage]:
    """Yields an image with its texts for each line.

    Raises:
      UserError: there is no such file, or none for the split.
    """
    path = _file(given.source, given.split)
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            with given.report.leaving_out(f"{path.name}:{number}"):
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as e:
                    raise DataError(f"the line is not JSON ({e}).") from None
                if not isinstance(record, dict) or not isinstance(record.get("image"), str):
                    raise DataError("the line has no image.")
                yield AnnotatedImage(given.find_image(record["image"]), texts=[_example(record)])


def _file(source: pathlib.Path, split: str) -> pathlib.Path:
    if source.is_file():
        return source
    files = sorted(source.glob(PATTERN)) or sorted(source.glob(f"*/{PATTERN}"))
    fitting = [file for file in files if f".{split}." in file.name] or files
    if len(fitting) != 1:
        names = ", ".join(file.name for file in files)
        raise UserError(f"{source} holds {names or 'no ' + PATTERN}; give one of them, or --split.")
    return fitting[0]


def _example(record: dict[str, Any]) -> dict[str, Any]:
    """The line's texts; the objects in its suffix are written again, as pgjax writes them."""
    prefix, suffix = record.get("prefix", ""), record.get("suffix")
    if not isinstance(prefix, str) or not isinstance(suffix, str):
        raise DataError("expected texts as prefix and suffix.")
    kept = {k: v for k, v in record.items() if k not in ("image", "prefix", "suffix")}
    found = parse_boxes(suffix)
    if count_locations(suffix) != 4 * len(found):
        raise DataError(f"the suffix {suffix[:80]!r} has location tokens that are no objects.")
    if not found:
        return {"prefix": prefix, "suffix": suffix, **kept}
    boxes = [box[:4] for box in found]
    labels = [clean_label(box.label) if box.label else "" for box in found]
    codes = [box.codes for box in found]
    text = format_boxes(boxes, labels, codes if all(codes) else None)
    return {"prefix": prefix, "suffix": text, "boxes": boxes, "labels": labels, **kept}
