"""VizWiz: photographs and questions by blind people."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields one question per image; empty answers, of which there are a few, are dropped."""
    for row in files.rows(f"{split.replace('validation', 'val')}.json"):
        given = [answer["answer"] for answer in row.get("answers", ())]
        yield {
            "image": files[row["image"]],
            "image_id": row["image"],
            "question": row["question"],
            "answer_type": row.get("answer_type", ""),
            "answers": [answer for answer in given if answer],
        }


READER = Reader(
    about="VizWiz-VQA: visual questions of blind people, ten answers each (arXiv:1802.08218).",
    where="""\
https://vizwiz.org/tasks-and-datasets/vqa/: train.zip, val.zip, test.zip, and Annotations.zip
(train.json, val.json, test.json).""",
    licence="CC BY 4.0.",
    key="image_id",
    features={
        "image": IMAGE, "image_id": str, "question": str, "answer_type": str, "answers": [str],
    },
    splits={"train": 20_523, "validation": 4_319, "test": 8_000},
    read=read,
)  # fmt: skip
