"""Predictions in the format that a benchmark's evaluation server takes.

Each format is a function from a record, with the ids of the official files, to an entry of the
submitted file. A new one is such a function and a line of `FORMATS`.
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
    """Entries of a JSON list; or of an object, where `entry` gives (key, value).

    `inside` is the name that the file must have inside a zip, "" where it is sent as it is.
    """

    entry: Callable[[Record], Any]
    is_object: bool = False
    inside: str = ""


def _number(value: Any) -> Any:
    """Ids that are numbers in the official files, but may have become text on the way."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


def vqa(record: Record) -> dict:
    """EvalAI: VQA v2, OK-VQA, TextVQA."""
    return {"question_id": _number(record["question_id"]), "answer": record["prediction"]}


def rrc(record: Record) -> dict:
    """Robust Reading Competition: DocVQA and InfographicVQA."""
    return {"questionId": _number(record["question_id"]), "answer": record["prediction"]}


def vizwiz(record: Record) -> dict:
    """EvalAI: VizWiz names images."""
    name = record["image_id"] if "image_id" in record else record["question_id"]
    return {"image": name, "answer": record["prediction"]}


def gqa(record: Record) -> dict:
    """EvalAI: GQA's ids are text."""
    return {"questionId": str(record["question_id"]), "prediction": record["prediction"]}


def caption(record: Record) -> dict:
    """COCO's and NoCaps' servers, and EvalAI for TextCaps, whose ids are text."""
    return {"image_id": record["image_id"], "caption": record["prediction"]}


def coco_caption(record: Record) -> dict:
    """COCO and NoCaps: ids are numbers."""
    return {**caption(record), "image_id": _number(record["image_id"])}


def aokvqa_mc(record: Record) -> tuple[str, dict]:
    """A-OKVQA's leaderboard, multiple choice."""
    return str(record["question_id"]), {"multiple_choice": record["prediction"]}


def aokvqa_da(record: Record) -> tuple[str, dict]:
    """A-OKVQA's leaderboard, direct answers."""
    return str(record["question_id"]), {"direct_answer": record["prediction"]}


def vatex(record: Record) -> tuple[str, str]:
    """VATEX's server: captions by video."""
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
    "stvqa": Format(vqa),  # RRC as well, with another name of the id
    "textcaps": Format(caption),
    "textvqa": Format(vqa),
    "vatex_cap": Format(vatex, is_object=True, inside="submission.json"),
    "vizwizvqa": Format(vizwiz),
    "vqav2": Format(vqa),
}


def write_submission(name: str, records: Iterable[Record], stem: pathlib.Path) -> pathlib.Path:
    """Writes `STEM.submission.json`, or `.zip` where the server wants one.

    Args:
      name: of a format.
      records: with `prediction` and the ids of the official files.
      stem: path without suffix.

    Returns:
      The file, which appears whole or not at all.

    Raises:
      DataError: a record without the id that the format needs.
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
    """The text of the file, an entry a line."""
    yield "{" if form.is_object else "["
    for record, comma in zip(records, itertools.chain([""], itertools.repeat(",")), strict=False):
        try:
            entry = form.entry(record)
        except KeyError as e:
            raise DataError(
                f"submission {name!r} needs {e} of every example; record {record.get('index')} has "
                f"{sorted(record)}."
            ) from None
        if form.is_object:
            key, value = entry
            yield f"{comma}\n{_dumps(key)}: {_dumps(value)}"
        else:
            yield f"{comma}\n{_dumps(entry)}"
    yield "\n}\n" if form.is_object else "\n]\n"


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
