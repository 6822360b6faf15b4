"""VSR: whether a statement about where two objects are is true of a photograph."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields the statements of a split, each to be answered by True or False."""
    kind, part = split.split("_")
    for i, row in enumerate(files.jsonl(f"{kind}/{part}.jsonl")):
        name, folder = row["image"], row["image_link"].split("/")[-2]
        yield {
            "image": files.first(f"{folder}/{name}", f"trainval2017/{name}", f"images/{name}"),
            "image_id": name,
            "question_id": f"{split}/{i}",
            "question": row["caption"],
            "answers": ["True" if row["label"] else "False"],
            "relation": row["relation"],
        }


READER = Reader(
    about="VSR: statements about where two objects are, true or false (arXiv:2205.00363).",
    where="""\
https://github.com/cambridgeltl/visual-spatial-reasoning, folder data/splits: random/train.jsonl, …,
zeroshot/test.jsonl, as of March 2023 or later; https://cocodataset.org/#download: train2017.zip and
val2017.zip, or the images that the repository names, in a folder images.""",
    licence="Apache-2.0 (annotations); the images are those of COCO, their Flickr authors'.",
    key="question_id",
    features={
        "image": IMAGE, "image_id": str, "question_id": str, "question": str, "answers": [str],
        "relation": str,
    },
    splits={
        "random_train": 7_680,
        "random_dev": 1_097,
        "random_test": 2_195,
        "zeroshot_train": 3_489,
        "zeroshot_dev": 340,
        "zeroshot_test": 1_222,
    },
    read=read,
)  # fmt: skip
