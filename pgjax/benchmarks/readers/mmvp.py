"""MMVP: pairs of images that an encoder confuses, with a question that tells them apart."""

import re
from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader, clean_space
from pgjax.errors import UserError


def read(files: Files, split: str) -> Iterator[Example]:
    """Takes rows one and two as a pair, and so on; options are written `(a) Open (b) Closed`.

    Images are numbered by row; the column for it, "lndex" where it was published, is not read.
    """
    for number, row in enumerate(files.csv("Questions.csv"), 1):
        found = re.findall(r"\((\w)\)(.*?)(?=\(\w\)|$)", clean_space(row["Options"]))
        options = {letter.lower(): clean_space(text) for letter, text in found}
        right = row["Correct Answer"].strip(" ()").lower()
        if right not in options:
            raise UserError(f"Questions.csv: question {number} has no option {right!r}.")
        yield {
            "image": files[f"MMVP Images/{number}.jpg"],
            "question_id": number,
            "pair": (number - 1) // 2,
            "question": row["Question"],
            "choices": list(options.values()),
            "answers": [options[right]],
        }


READER = Reader(
    about="MMVP: pairs of images that CLIP takes for alike (arXiv:2401.06209).",
    where="https://huggingface.co/datasets/MMVP/MMVP: Questions.csv, and the folder 'MMVP Images'.",
    licence="MIT.",
    key="question_id",
    features={
        "image": IMAGE,
        "question_id": int,
        "pair": int,
        "question": str,
        "choices": [str],
        "answers": [str],
    },
    splits={"test": 300},
    read=read,
)
