"""TallyQA: simple and complex counting questions."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields counting questions; only the test split says which of them are simple."""
    for row in files.rows(f"{split}.json"):
        yield {
            "image": files[row["image"]],
            "image_id": row["image_id"],
            # Ids of questions repeat in other sources.
            "question_id": f"{row['data_source']}/{row['image_id']}/{row['question_id']}",
            "question": row["question"],
            "issimple": int(row["issimple"]) if split == "test" else -1,
            "answers": [str(row["answer"])],
        }


READER = Reader(
    about="TallyQA: simple and complex counting questions (arXiv:1810.12440).",
    where="""\
https://github.com/manoja328/TallyQA_dataset: tallyqa.zip (train.json, test.json);
https://cocodataset.org/#download: train2014.zip, val2014.zip;
https://homes.cs.washington.edu/~ranjay/visualgenome/api.html: images.zip and images2.zip (VG_100K,
VG_100K_2).""",
    licence="Apache-2.0 (questions); images: CC BY 4.0 (Visual Genome), COCO's Flickr authors'.",
    key="question_id",
    features={
        "image": IMAGE,
        "image_id": int,
        "question_id": str,
        "question": str,
        "issimple": int,
        "answers": [str],
    },
    splits={"train": 249_318, "test": 38_589},
    read=read,
)
