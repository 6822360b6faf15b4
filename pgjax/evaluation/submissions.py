"""Writes predictions in the formats that the evaluation servers of benchmarks take.

Each format is a function that turns a record, with the ids of the official files, into an entry of
the submitted file. To add one, write such a function and add a line to `FORMATS`.
"""

import dataclasses
import itertools
import json
import pathlib
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pgjax.errors import DataError

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Format:
    """A format for submissions.

    Attributes:
      entry: turns a record into an entry of the JSON list, or into (key, value) of the object.
      is_object: whether the file is a JSON object instead of a list.
      inside: the name of the file in the zip archive that is submitted; "" for a plain file.
    """

    entry: Callable[[Record], Any]
    is_object: bool = False
    inside: str = ""


def _number(value: Any) -> Any:
    """Turns an id back into the number that it is in the official files."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


def vqa(record: Record) -> dict:
    """Makes an entry for EvalAI, for VQA v2, OK-VQA and TextVQA."""
    return {"question_id": _number(record["question_id"]), "answer": record["prediction"]}


def rrc(record: Record) -> dict:
    """Makes an entry for the Robust Reading Competition, for DocVQA and InfographicVQA."""
    return {"questionId": _number(record["question_id"]), "answer": record["prediction"]}


def vizwiz(record: Record) -> dict:
    """Makes an entry for EvalAI, for VizWiz, which identifies questions by their images."""
    name = record["image_id"] if "image_id" in record else record["question_id"]
    return {"image": name, "answer": record["prediction"]}


def gqa(record: Record) -> dict:
    """Makes an entry for EvalAI, for GQA, whose ids are text."""
    return {"questionId": str(record["question_id"]), "prediction": record["prediction"]}


def caption(record: Record) -> dict:
    """Makes an entry for EvalAI, for TextCaps, whose ids are text."""
    return {"image_id": record["image_id"], "caption": record["prediction"]}


def coco_caption(record: Record) -> dict:
    """Makes an entry for the servers of COCO and NoCaps, whose ids are numbers."""
    return {**caption(record), "image_id": _number(record["image_id"])}


def aokvqa_mc(record: Record) -> tuple[str, dict]:
    """Makes an entry for A-OKVQA's leaderboard, for multiple choice."""
    return str(record["question_id"]), {"multiple_choice": record["prediction"]}


def aokvqa_da(record: Record) -> tuple[str, dict]:
    """Makes an entry for A-OKVQA's leaderboard, for direct answers."""
    return str(record["question_id"]), {"direct_answer": record["prediction"]}


def vatex(record: Record) -> tuple[str, str]:
    """Makes an entry for VATEX's server, which takes captions by video."""
    return str(record["video_id"]), record["prediction"]


FORMATS: dict[str, Format] = {
    "aokvqa_da": Format(aokvqa_da, is_object=True),
    "aokvqa_mc": Format(aokvqa_mc, is_object=True),
    "cococap_test": Format(coco_caption, inside="captions_test2014_pgjax_results.json"),
    "cococap_val": Format(coco_caption, inside="captions_val2014_pgjax_results.json"),
    "docvqa": Format(rrc),
    "gqa": Format(gqa),
    "infovqa": Format(rrc),
    "nocaps": Format(coco_caption),
    "okvqa": Format(vqa),
    "stvqa": Format(vqa),  # at the Robust Reading Competition as well
    "textcaps": Format(caption),
    "textvqa": Format(vqa),
    "vatex_cap": Format(vatex, is_object=True, inside="submission.json"),
    "vizwizvqa": Format(vizwiz),
    "vqav2": Format(vqa),
}


def write_submission(name: str, records: Iterable[Record], stem: pathlib.Path) -> pathlib.Path:
    """Writes `STEM.submission.json`, or `STEM.submission.zip` if the server takes zip archives.

    Args:
      name: the name of a format in `FORMATS`.
      records: records with `prediction` and the ids of the official files.
      stem: the path of the file without its suffix.

    Returns:
      The path of the file, which appears complete or not at all.

    Raises:
      DataError: a record lacks the id that the format needs.
    """
    form = FORMATS[name]
    path = stem.with_name(f"{stem.name}.submission.{'zip' if form.inside else 'json'}")
    part = path.with_name(path.name + ".part")
    pieces = (piece.encode() for piece in _json(name, form, records))
    if form.inside:
        with (
            zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open(zipfile.ZipInfo(form.inside), "w", force_zip64=True) as f,
        ):
            f.writelines(pieces)
    else:
        with part.open("wb") as f:
            f.writelines(pieces)
    part.replace(path)
    return path


def _json(name: str, form: Format, records: Iterable[Record]) -> Iterator[str]:
    """Yields the text of the file, with one entry on each line."""
    yield "{" if form.is_object else "["
    for record, comma in zip(records, itertools.chain([""], itertools.repeat(",")), strict=False):
        try:
            entry = form.entry(record)
        except KeyError as e:
            raise DataError(
                f"The submission format {name!r} needs {e} of every example, but record "
                f"{record.get('index')} has only {sorted(record)}."
            ) from None
        if form.is_object:
            key, value = entry
            yield f"{comma}\n{_dumps(key)}: {_dumps(value)}"
        else:
            yield f"{comma}\n{_dumps(entry)}"
    yield "\n}\n" if form.is_object else "\n]\n"


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
