"""COCO captions in Karpathy's splits."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader, clean_space


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields images with their captions as people wrote them, except for line breaks."""
    for image in files.rows("dataset_coco.json", "images"):
        if image["split"] == split.replace("validation", "val"):
            yield {
                "image": files[f"{image['filepath']}/{image['filename']}"],
                "image_id": image["cocoid"],
                "answers": [clean_space(sentence["raw"]) for sentence in image["sentences"]],
            }


READER = Reader(
    about="COCO captions (arXiv:1504.00325) in the splits of Karpathy (arXiv:1412.2306).",
    where="""\
https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip (dataset_coco.json);
https://cocodataset.org/#download: train2014.zip and val2014.zip, as they are or unpacked.""",
    licence="CC BY 4.0 (annotations); the images are under the licences of their Flickr authors.",
    key="image_id",
    features={"image": IMAGE, "image_id": int, "answers": [str]},
    splits={"train": 82_783, "restval": 30_504, "validation": 5_000, "test": 5_000},
    read=read,
)
