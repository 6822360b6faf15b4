"""OCR-VQA: questions about book covers."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader

_PARTS = {"train": 1, "validation": 2, "test": 3}


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields an example per question; a cover has its questions and answers in two lists."""
    for key, cover in files.entries("dataset.json"):
        if cover["split"] != _PARTS[split]:
            continue
        image = files.first(*(f"images/{key}{s}" for s in (".jpg", ".png", ".gif", ".jpeg")))
        pairs = zip(cover["questions"], cover["answers"], strict=True)
        for i, (question, answer) in enumerate(pairs):
            yield {
                "image": image,
                "image_id": key,
                "question_id": f"{key}/{i}",
                "question": question,
                "answers": [answer],
            }


READER = Reader(
    about="OCR-VQA: questions about covers of books (Mishra et al., ICDAR 2019).",
    where="""\
https://ocr-vqa.github.io: dataset.json, and the images that its loadDataset.py downloads, as
images/ID.jpg (or .png, .gif).""",
    licence="not stated; for research, the covers are their owners'.",
    key="question_id",
    features={
        "image": IMAGE, "image_id": str, "question_id": str, "question": str, "answers": [str],
    },
    splits={"train": None, "validation": None, "test": None},
    read=read,
)  # fmt: skip
