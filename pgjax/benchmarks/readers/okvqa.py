"""OK-VQA: questions about photographs that need knowledge of the world."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader, by_id, coco_image


def read(files: Files, split: str) -> Iterator[Example]:
    """Joins questions and annotations; answers are the stemmed ones, which are scored."""
    folder = {"train": "train2014", "validation": "val2014"}[split]
    questions = files.rows(f"OpenEnded_mscoco_{folder}_questions.json", "questions")
    annotations = files.rows(f"mscoco_{folder}_annotations.json", "annotations")
    known = by_id(annotations, "question_id")
    for question in questions:
        annotation = known[question["question_id"]]
        yield {
            "image": coco_image(files, question["image_id"], folder),
            "image_id": question["image_id"],
            "question_id": question["question_id"],
            "question": question["question"],
            "question_type": annotation["question_type"],
            "answers": [answer["answer"] for answer in annotation["answers"]],
        }


READER = Reader(
    about="OK-VQA: questions that need outside knowledge, ten answers each (arXiv:1906.00067).",
    where="""\
https://okvqa.allenai.org/download.html, version 1.1: the two files of questions and the two of
annotations, zipped or not; https://cocodataset.org/#download: train2014.zip and val2014.zip.""",
    licence="CC BY 4.0 (annotations); the images are under the licences of their Flickr authors.",
    key="question_id",
    features={
        "image": IMAGE,
        "image_id": int,
        "question_id": int,
        "question": str,
        "question_type": str,
        "answers": [str],
    },
    splits={"train": 9_009, "validation": 5_046},
    read=read,
)
