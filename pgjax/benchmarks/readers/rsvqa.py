"""RSVQA: questions about satellite and aerial images, of low and of high resolution."""

import functools
from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader
from pgjax.errors import UserError

_PARTS = {"train": "train", "validation": "val", "test": "test", "test2": "test_phili"}
_NUMERIC = ("count", "area")


def _read(prefix: str, folder: str, files: Files, split: str) -> Iterator[Example]:
    """Yields the questions that do not ask for numbers, without inactive entries."""
    part = f"{prefix}_split_{_PARTS[split]}"
    answers = {row["id"]: row for row in files.rows(f"{part}_answers.json", "answers")}
    for row in files.rows(f"{part}_questions.json", "questions"):
        if not row["active"] or row["type"] in _NUMERIC:
            continue
        given = [answers[key] for key in row["answers_ids"]]
        if any(answer["question_id"] != row["id"] for answer in given):
            raise UserError(f"{part}: the answers of question {row['id']} are of another question.")
        image = f"{folder}/{row['img_id']}"
        yield {
            "image": files.first(f"{image}.tif", f"{image}.png"),
            "image_id": row["img_id"],
            "question_id": row["id"],
            "question": row["question"],
            "question_type": row["type"],
            "answers": [answer["answer"] for answer in given],
        }


_FEATURES = {
    "image": IMAGE,
    "image_id": int,
    "question_id": int,
    "question": str,
    "question_type": str,
    "answers": [str],
}

LOW = Reader(
    about="RSVQA-LR: questions about satellite images, without numeric ones (arXiv:2003.07333).",
    where="""\
https://zenodo.org/records/6344334: LR_split_train_questions.json, LR_split_train_answers.json and
those of val and test, and Images_LR.zip.""",
    licence="CC BY 4.0.",
    key="question_id",
    features=_FEATURES,
    splits={"train": 39_441, "validation": 6_782, "test": 6_782},
    read=functools.partial(_read, "LR", "Images_LR"),
)

HIGH = Reader(
    about="RSVQA-HR: questions about aerial images, without numeric ones (arXiv:2003.07333).",
    where="""\
https://zenodo.org/records/6344367: USGS_split_train_questions.json, USGS_split_train_answers.json
and those of val, test and test_phili, and Images.tar (folder Data).""",
    licence="CC BY 4.0.",
    key="question_id",
    features=_FEATURES,
    splits={"train": 371_834, "validation": 60_405, "test": 131_468, "test2": 62_554},
    read=functools.partial(_read, "USGS", "Data"),
)
