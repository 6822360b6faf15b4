"""CountBenchQA: how many objects there are, from two to ten."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader
from pgjax.errors import UserError


def read(files: Files, split: str) -> Iterator[Example]:
    """Pairs questions and images by their order; the parquet file lacks some of the images."""
    members = files.glob("*.parquet")
    if len(members) != 1:
        raise UserError(f"{files.source} has {len(members)} parquet files, expected CountBench's.")
    rows = list(files.parquet(members[0], later=("image",)))
    questions = list(files.rows("countbench_paired_questions.json"))
    if len(rows) != len(questions):
        raise UserError(f"CountBench has {len(rows)} images but {len(questions)} questions.")
    for i, (row, question) in enumerate(zip(rows, questions, strict=True)):
        yield {
            "image": row["image"],
            "question_id": i,
            "question": question["question"],
            "answers": [str(row["number"])],
        }


READER = Reader(
    about="CountBenchQA: questions of number about CountBench (arXiv:2407.07726, 2302.12066).",
    where="""\
https://huggingface.co/datasets/nielsr/countbench: train-00000-of-00001-*.parquet (49 of its images
are missing, and listed); https://github.com/google-research/big_vision, folder
big_vision/datasets/countbenchqa/data: countbench_paired_questions.json.""",
    licence="Apache-2.0 (questions); the images are those of LAION-400M, their owners'.",
    key="question_id",
    features={"image": IMAGE, "question_id": int, "question": str, "answers": [str]},
    splits={"test": 540},
    read=read,
)
