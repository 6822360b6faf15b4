"""ChartQA: questions about charts, written by people or generated from summaries."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader


def read(files: Files, split: str) -> Iterator[Example]:
    """Takes a question's place in its file as its id, since questions have none."""
    part, kind = split.split("_")
    for i, row in enumerate(files.rows(f"{part}/{split}.json")):
        yield {
            "image": files[f"{part}/png/{row['imgname']}"],
            "question_id": f"{split}/{i}",
            "question": row["query"],
            "question_type": kind,
            "answers": [row["label"]],
        }


READER = Reader(
    about="ChartQA: questions about charts (arXiv:2203.10244).",
    where="""\
https://huggingface.co/datasets/ahmed-masry/ChartQA: 'ChartQA Dataset.zip' (train/train_human.json,
train/train_augmented.json, train/png, …).""",
    licence="GPL-3.0.",
    key="question_id",
    features={
        "image": IMAGE, "question_id": str, "question": str, "question_type": str, "answers": [str],
    },
    splits={
        "train_human": 7_398, "train_augmented": 20_901, "val_human": 960, "val_augmented": 960,
        "test_human": 1_250, "test_augmented": 1_250,
    },
    read=read,
)  # fmt: skip
