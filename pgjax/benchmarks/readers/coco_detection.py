"""COCO and DocLayNet: all objects of an image, or all parts of a page, with their classes."""

from collections.abc import Callable, Iterator
from typing import Any

from pgjax.benchmarks.official_files import Files, Member
from pgjax.benchmarks.reader import BOX, IMAGE, Example, Reader, by_id, coco_image, grouped

_FEATURES = {
    "image": IMAGE,
    "image_id": int,
    "size": [int],  # height and width in pixels
    "boxes": [BOX],
    "labels": [str],
    "areas": [float],  # in pixels, of the objects' outlines
    "crowd_boxes": [BOX],  # which count neither as found nor as missed
    "crowd_labels": [str],
}


def read_coco(files: Files, split: str) -> Iterator[Example]:
    """Yields all images of a split, those without objects too."""
    folder = f"{split}2017"
    name = f"annotations/instances_{folder}.json"
    yield from _read(files, name, lambda row: coco_image(files, row["id"], folder))


def read_doclaynet(files: Files, split: str) -> Iterator[Example]:
    """Yields the pages of a split."""
    yield from _read(files, f"COCO/{split}.json", lambda row: files[f"PNG/{row['file_name']}"])


def _read(files: Files, name: str, image: Callable[[Any], Member]) -> Iterator[Example]:
    names = {key: row["name"] for key, row in by_id(files.rows(name, "categories")).items()}
    objects = grouped(files.rows(name, "annotations"), "image_id")
    for row in files.rows(name, "images"):
        height, width = row["height"], row["width"]
        example: Example = {
            "image": image(row),
            "image_id": row["id"],
            "size": [height, width],
            **{key: [] for key in ("boxes", "labels", "areas", "crowd_boxes", "crowd_labels")},
        }
        for thing in objects.get(row["id"], ()):
            x, y, w, h = thing["bbox"]
            box = [y / height, x / width, (y + h) / height, (x + w) / width]
            crowd = "crowd_" if thing.get("iscrowd") else ""
            example[f"{crowd}boxes"].append([min(max(v, 0.0), 1.0) for v in box])
            example[f"{crowd}labels"].append(names[thing["category_id"]])
            if not crowd:
                example["areas"].append(thing["area"])
        yield example


COCO = Reader(
    about="COCO: objects of 80 classes in photographs (arXiv:1405.0312).",
    where="""\
https://cocodataset.org/#download: annotations_trainval2017.zip (annotations/instances_….json, some
GB in memory for training), train2017.zip and val2017.zip, as they are or unpacked.""",
    licence="CC BY 4.0 (annotations); the images are under the licences of their Flickr authors.",
    key="image_id",
    features=_FEATURES,
    splits={"train": 118_287, "val": 5_000},
    read=read_coco,
)

DOCLAYNET = Reader(
    about="DocLayNet: parts of 11 classes on pages of documents (arXiv:2206.01062).",
    where="""\
https://developer.ibm.com/exchanges/data/all/doclaynet: DocLayNet_core.zip (COCO/train.json,
COCO/val.json, COCO/test.json and the folder PNG), as it is or unpacked.""",
    licence="CDLA-Permissive-1.0.",
    key="image_id",
    features=_FEATURES,
    splits={"train": 69_375, "val": 6_489, "test": 4_999},
    read=read_doclaynet,
)
