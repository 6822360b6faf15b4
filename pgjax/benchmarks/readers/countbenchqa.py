"""CountBenchQA: how many objects there are, from two to ten."""

import io
from collections.abc import Iterator

from PIL import Image

from pgjax.benchmarks.official_files import Cell, Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader
from pgjax.errors import DataError, UserError


def read(files: Files, split: str) -> Iterator[Example]:
    """Pairs questions and images by their order, as the published score does.

    It leaves out the 49 images that the parquet file lacks, and one that is gray.
    """
    members = files.glob("*.parquet")
    if len(members) != 1:
        raise UserError(f"{files.source} has {len(members)} parquet files, expected CountBench's.")
    rows = list(files.parquet(members[0], later=("image",)))
    questions = list(files.rows("countbench_paired_questions.json"))
    if len(rows) != len(questions):
        raise UserError(f"CountBench has {len(rows)} images but {len(questions)} questions.")
    for i, (row, question) in enumerate(zip(rows, questions, strict=True)):
        if not _has_colours(row["image"]):
            continue
        yield {
            "image": row["image"],
            "question_id": i,
            "question": question["question"],
            "answers": [str(row["number"])],
        }


def _has_colours(image: Cell) -> bool:
    try:
        return len(Image.open(io.BytesIO(image.read())).getbands()) > 1
    except DataError:
        return False
    except OSError:
        return True  # what it is about, is told where images are read


READER = Reader(
    about="CountBenchQA: questions of number about CountBench (arXiv:2407.07726, 2302.12066).",
    where="""\
https://huggingface.co/datasets/nielsr/countbench: train-00000-of-00001-*.parquet (49 of its images
are missing and 1 is gray, which are left out); https://github.com/google-research/big_vision,
folder big_vision/datasets/countbenchqa/data: countbench_paired_questions.json.""",
    licence="Apache-2.0 (questions); the images are those of LAION-400M, their owners'.",
    key="question_id",
    features={"image": IMAGE, "question_id": int, "question": str, "answers": [str]},
    splits={"test": 490},
    read=read,
    version="1.1.0",
)
