"""A-OKVQA: questions that need knowledge and reasoning, with free answers and with choices."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader, coco_image


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields free answers in `answers`, the right choice in `correct`; `test` has neither."""
    part = split.replace("validation", "val")
    for row in files.rows(f"aokvqa_v1p0_{part}.json"):
        correct = row.get("correct_choice_idx")
        yield {
            "image": coco_image(files, row["image_id"], f"{part}2017"),
            "image_id": row["image_id"],
            "question_id": row["question_id"],
            "question": row["question"],
            "choices": row["choices"],
            "correct": [] if correct is None else [row["choices"][correct]],
            "answers": row.get("direct_answers", []),
            "difficult_direct_answer": row["difficult_direct_answer"],
        }


READER = Reader(
    about="A-OKVQA: questions that need knowledge and reasoning (arXiv:2206.01718).",
    where="""\
https://aokvqa.allenai.org/download.html: aokvqa_v1p0.tar.gz; https://cocodataset.org/#download:
train2017.zip, val2017.zip, test2017.zip.""",
    licence="Apache-2.0 (annotations); the images are under the licences of their Flickr authors.",
    key="question_id",
    features={
        "image": IMAGE,
        "image_id": int,
        "question_id": str,
        "question": str,
        "choices": [str],
        "correct": [str],
        "answers": [str],
        "difficult_direct_answer": bool,  # not counted among free answers by the official score
    },
    splits={"train": 17_056, "validation": 1_145, "test": 6_702},
    read=read,
    version="1.1.0",
)
