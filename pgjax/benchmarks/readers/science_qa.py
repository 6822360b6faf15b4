"""ScienceQA: multiple-choice questions of school science that come with an image."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader


def read(files: Files, split: str) -> Iterator[Example]:
    """Reads problems.json, which holds all splits, without the questions that have no image."""
    part = split.replace("validation", "val")
    for key, row in files.entries("problems.json"):
        if row["split"] == part and row["image"]:
            yield {
                "image": files[f"{part}/{key}/{row['image']}"],
                "question_id": key,
                "question": row["question"],
                "hint": row["hint"] or "N/A",
                "choices": row["choices"],
                "correct": row["answer"],
                "subject": row["subject"],
                "topic": row["topic"],
                "grade": row["grade"],
                "answers": [f"The answer is {chr(ord('A') + row['answer'])}."],
            }


READER = Reader(
    about="ScienceQA: multiple-choice questions of school science (arXiv:2209.09513).",
    where="""\
https://scienceqa.github.io/#download: problems.json, and train.zip, val.zip and test.zip (images as
train/1/image.png).""",
    licence="CC BY-NC-SA 4.0.",
    key="question_id",
    features={
        "image": IMAGE,
        "question_id": str,
        "question": str,
        "hint": str,
        "choices": [str],
        "correct": int,
        "subject": str,
        "topic": str,
        "grade": str,
        "answers": [str],
    },
    splits={"train": 6_218, "validation": 2_097, "test": 2_017},
    read=read,
)
