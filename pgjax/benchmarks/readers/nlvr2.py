"""NLVR2: whether a statement about two photographs is true."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader

_FILES = {"train": "train.json", "dev": "dev.json", "test": "test1.json"}


def read(files: Files, split: str) -> Iterator[Example]:
    """Reads JSON lines; images are named as the identifier without the statement's number."""
    for row in files.jsonl(_FILES[split]):
        stem = row["identifier"].rpartition("-")[0]
        yield {
            "image": [files[f"{stem}-img{i}.png"] for i in (0, 1)],
            "question_id": row["identifier"],
            "question": row["sentence"],
            "answers": [row["label"]],
        }


READER = Reader(
    about="NLVR2: whether a sentence about two photographs is true (arXiv:1811.00491).",
    where="""\
https://github.com/lil-lab/nlvr, folder nlvr2/data: train.json, dev.json, test1.json; the images, as
zips or unpacked, on request (see its README).""",
    licence="CC BY 4.0 (sentences); the images are their owners', for research.",
    key="question_id",
    features={"image": [IMAGE], "question_id": str, "question": str, "answers": [str]},
    splits={"train": 86_373, "dev": 6_982, "test": 6_967},
    read=read,
)
