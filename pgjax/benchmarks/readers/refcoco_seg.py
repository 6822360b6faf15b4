"""RefCOCO, RefCOCO+ and RefCOCOg: phrases that refer to one object, with its mask."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import BOX, IMAGE, Example, Reader, by_id
from pgjax.data.importers.annotated import image_size
from pgjax.data.importers.outlines import polygon_mask
from pgjax.data.masks import crop_mask
from pgjax.inference.mask_rle import encode_mask
from pgjax.run_lengths import run_length_mask
from pgjax.text.locations import format_boxes

# Split -> (data set, its refs by UNC or UMD, their split).
_EVAL = {
    "refcoco_val": ("refcoco", "unc", "val"),
    "refcoco_testA": ("refcoco", "unc", "testA"),
    "refcoco_testB": ("refcoco", "unc", "testB"),
    "refcocoplus_val": ("refcoco+", "unc", "val"),
    "refcocoplus_testA": ("refcoco+", "unc", "testA"),
    "refcocoplus_testB": ("refcoco+", "unc", "testB"),
    "refcocog_val": ("refcocog", "umd", "val"),
    "refcocog_test": ("refcocog", "umd", "test"),
}
_SETS = (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd"))


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields an example per phrase, or per image in `train`, which joins all three data sets.

    No image of `train` is one that any of the three evaluates on.
    """
    if split != "train":
        name, by, part = _EVAL[split]
        for ref, image, segmentation in _refs(files, name, by):
            if ref["split"] == part:
                for sentence in ref["sentences"]:
                    key = f"{name}/{ref['ref_id']}/{sentence['sent_id']}"
                    objects = [{"phrases": [sentence["sent"]], **segmentation}]
                    yield _example(files, key, image, objects)
        return
    images: dict[int, Mapping[str, Any]] = {}
    objects_of: dict[int, list[dict[str, Any]]] = {}
    held_out = set()
    for name, by in _SETS:
        for ref, image, segmentation in _refs(files, name, by):
            if ref["split"] == "train":
                phrases = [sentence["sent"] for sentence in ref["sentences"]]
                objects_of.setdefault(image["id"], []).append({"phrases": phrases, **segmentation})
                images[image["id"]] = image
            else:
                held_out.add(image["id"])
    for image_id in sorted(images.keys() - held_out):
        yield _example(files, f"train/{image_id}", images[image_id], objects_of[image_id])


def _refs(
    files: Files, name: str, by: str
) -> Iterator[tuple[dict[str, Any], Mapping[str, Any], dict[str, Any]]]:
    """Yields each reference with its image and its object's segmentation and box."""
    instances = f"{name}/instances.json"
    images, annotations = (by_id(files.rows(instances, k)) for k in ("images", "annotations"))
    for ref in files.rows(f"{name}/refs({by}).p"):
        found = annotations[ref["ann_id"]]
        yield ref, images[ref["image_id"]], {k: found[k] for k in ("segmentation", "bbox")}


def _example(
    files: Files, key: str, image: Mapping[str, Any], objects: list[dict[str, Any]]
) -> Example:
    # Not a ref's file_name, which ends in the number of its annotation; COCO renamed its files.
    names = f"train2014/{image['file_name']}", f"train2017/{image['id']:012}.jpg"
    return {
        "image": files.first(*names),
        "image_id": image["id"],
        "question_id": key,
        "size": [image["height"], image["width"]],
        "objects": objects,
    }


def build(example: Example, *, tiny: bool) -> Example:
    """Computes the targets of all phrases, and for one object the mask that is scored."""
    (height, width), objects = example.pop("size"), example.pop("objects")
    phrases, answers, boxes, run_lengths = [], [], [], ""
    for thing in objects:
        run_lengths, mask = _decoded(thing["segmentation"], height, width)
        x, y, w, h = thing["bbox"]
        box = [y / height, x / width, (y + h) / height, (x + w) / width]
        box = [min(max(v, 0.0), 1.0) for v in box]
        codes = _codec(tiny).encode(crop_mask(mask, box))
        # The released models learned these locations as fractions of 1023, not of 1024.
        target = format_boxes([[v * 1023 / 1024 for v in box]], [""], [codes])
        phrases += thing["phrases"]
        answers += [target] * len(thing["phrases"])
        boxes.append(box)
    alone = len(objects) == 1
    return {
        **example,
        "phrases": phrases,
        "answers": answers,
        "boxes": boxes,
        "mask": {"size": [height, width], "counts": run_lengths if alone else ""},
    }


def _decoded(segmentation: Any, height: int, width: int) -> tuple[str, np.ndarray]:
    """Decodes polygons or run lengths to compressed run lengths and a mask, bool [H,W]."""
    size = image_size(height, width)
    if isinstance(segmentation, list):
        mask = polygon_mask([p for p in segmentation if len(p) >= 6], size)
    else:
        mask = run_length_mask(segmentation, size)
    return encode_mask(mask)["counts"], mask


@functools.lru_cache(maxsize=1)
def _codec(tiny: bool):
    from pgjax.inference.mask_codec import open_codec

    return open_codec(tiny=tiny)


READER = Reader(
    about="RefCOCO/+/g: phrases for one object, and its mask (arXiv:1608.00272, arXiv:1511.02283).",
    where="""\
https://github.com/lichengunc/refer: refcoco.zip, refcoco+.zip, refcocog.zip, as they are or
unpacked (refcoco/instances.json, refcoco/refs(unc).p, …, refcocog/refs(umd).p);
https://cocodataset.org/#download: train2014.zip or train2017.zip.
Masks become codes of the released mask codec, vae-oid.npz in $PGJAX_CHECKPOINTS (--tiny: of the one
of the tiny model), by pycocotools: pip install 'paligemma-jax[metrics]'.""",
    licence="Apache-2.0 (refer); CC BY 4.0 (COCO's annotations); images: their Flickr authors'.",
    key="question_id",
    features={
        "image": IMAGE,
        "image_id": int,
        "question_id": str,
        "phrases": [str],
        "answers": [str],
        "boxes": [BOX],
        "mask": {"size": [int], "counts": str},
    },
    splits={
        "train": None,
        "refcoco_val": 10_834,
        "refcoco_testA": 5_657,
        "refcoco_testB": 5_095,
        "refcocoplus_val": 10_758,
        "refcocoplus_testA": 5_726,
        "refcocoplus_testB": 4_889,
        "refcocog_val": 4_896,
        "refcocog_test": 9_602,
    },
    read=read,
    build=build,
    options={"tiny": False},
)
