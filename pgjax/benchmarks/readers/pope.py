"""POPE: whether an object is in an image, with three ways of choosing absent objects."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader


def read(files: Files, split: str) -> Iterator[Example]:
    """Reads JSON lines, although the files end in .json."""
    for i, row in enumerate(files.jsonl(f"coco_pope_{split}.json")):
        yield {
            "image": files[f"val2014/{row['image']}"],
            "image_id": row["image"],
            "question_id": f"{split}/{i}",
            "question": row["text"],
            "answers": [row["label"]],
        }


READER = Reader(
    about="POPE: whether things are in a photograph that may not be (arXiv:2305.10355).",
    where="""\
https://github.com/AoiDragon/POPE, folder output/coco: coco_pope_random.json,
coco_pope_popular.json, coco_pope_adversarial.json;
https://cocodataset.org/#download: val2014.zip.""",
    licence="MIT (questions); the images are under the licences of their Flickr authors.",
    key="question_id",
    features={
        "image": IMAGE, "image_id": str, "question_id": str, "question": str, "answers": [str],
    },
    splits={"random": 3_000, "popular": 3_000, "adversarial": 3_000},
    read=read,
)  # fmt: skip
