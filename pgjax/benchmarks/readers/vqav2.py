"""VQAv2: questions about images of COCO, with ten answers each."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader, by_id, coco_image

_SPLITS = {
    "train": "train2014",
    "validation": "val2014",
    "test": "test2015",
    "test-dev": "test-dev2015",
}


def read(files: Files, split: str) -> Iterator[Example]:
    """Joins questions and annotations; the test questions have no annotations."""
    part = _SPLITS[split]
    questions = files.rows(f"v2_OpenEnded_mscoco_{part}_questions.json", "questions")
    annotations = {}
    if not split.startswith("test"):
        rows = files.rows(f"v2_mscoco_{part}_annotations.json", "annotations")
        annotations = by_id(rows, "question_id")
    # Questions of test-dev are about images of the whole test set.
    folder = part.replace("-dev", "")
    for question in questions:
        known = annotations.get(question["question_id"], {})
        yield {
            "image": coco_image(files, question["image_id"], folder),
            "image_id": question["image_id"],
            "question_id": question["question_id"],
            "question": question["question"],
            "question_type": known.get("question_type", ""),
            "answer_type": known.get("answer_type", ""),
            "answers": [answer["answer"] for answer in known.get("answers", ())],
        }


READER = Reader(
    about="VQAv2: questions about photographs, ten answers each (arXiv:1612.00837).",
    where="""\
https://visualqa.org/download.html, balanced real images: the four files of questions and the two of
annotations, as zip or unpacked; https://cocodataset.org/#download: train2014.zip, val2014.zip,
test2015.zip, as they are or unpacked.""",
    licence="CC BY 4.0 (annotations); the images are under the licences of their Flickr authors.",
    key="question_id",
    features={
        "image": IMAGE,
        "image_id": int,
        "question_id": int,
        "question": str,
        "question_type": str,
        "answer_type": str,
        "answers": [str],
    },
    splits={"train": 443_757, "validation": 214_354, "test": 447_793, "test-dev": 107_394},
    read=read,
)
