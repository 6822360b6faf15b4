"""ST-VQA: questions about text in scenes, from several collections of images."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields task 3; for COCO-Text, COCO's own images are preferred to the small copies."""
    for row in files.rows(f"{split}_task_3.json", "data"):
        path = row["file_path"]
        coco = path.replace("coco-text/", "train2014/")
        yield {
            "image": files.first(*dict.fromkeys((coco, path))),
            "image_id": path,
            "question_id": row["question_id"],
            "question": row["question"],
            "answers": row.get("answers", []),
        }


READER = Reader(
    about="ST-VQA: questions about text in scenes (arXiv:1905.13648).",
    where="""\
https://rrc.cvc.uab.es/?ch=11&com=downloads (with an account): train_task_3.json, test_task_3.json,
and the images of training and task 3; https://cocodataset.org/#download: train2014.zip.""",
    licence="as stated on the download page: for research; the images are their owners'.",
    key="question_id",
    features={
        "image": IMAGE, "image_id": str, "question_id": int, "question": str, "answers": [str],
    },
    splits={"train": 26_074, "test": 4_070},
    read=read,
)  # fmt: skip
