"""RefCOCO/+/g: pickles of Python 2, polygons and run lengths, an image that two splits share."""

import pickle

from fixture import picture, write, write_zip

_H, _W = 24, 20
_SQUARE = [[4, 6, 14, 6, 14, 18, 4, 18]]
_TWO = [[1, 1, 5, 1, 5, 5, 1, 5], [10, 10, 16, 10, 16, 20], [0, 0, 1, 1]]  # the last has no area
_RUNS = {"size": [_H, _W], "counts": [24 * 3, 12] + [12, 12] * 9 + [24 * 7 + 12]}
_SETS = {
    "refcoco": ("unc", ("train", "val", "testA", "testB")),
    "refcoco+": ("unc", ("train", "val", "testA", "testB")),
    "refcocog": ("umd", ("train", "val", "test")),
}


def make(folder):
    expected = {"train": []}
    for s, (name, (by, splits)) in enumerate(_SETS.items()):
        refs, images, annotations = [], [], []
        for i, split in enumerate((*splits, "train", "train")):
            image = 10 * s + i
            if s and i == len(splits) + 1:
                image = 1  # which refcoco evaluates on
            ann = 100 * s + i
            refs.append(
                {
                    "sent_ids": [2 * ann, 2 * ann + 1], "ann_id": ann, "ref_id": 7 * ann,
                    "file_name": f"COCO_train2014_{image:012}_{ann}.jpg",  # no file is called so
                    "image_id": image, "split": split, "category_id": 18,
                    "sentences": [
                        {"tokens": ["the", "dog"], "raw": f"The dog {n}!", "sent_id": 2 * ann + n,
                         "sent": f"the dog {n}"}
                        for n in range(2)
                    ],
                }
            )  # fmt: skip
            images.append(
                {"id": image, "height": _H, "width": _W,
                 "file_name": f"COCO_train2014_{image:012}.jpg"}
            )  # fmt: skip
            annotations.append(
                {
                    "segmentation": (_SQUARE, _TWO, _RUNS)[i % 3], "iscrowd": int(i % 3 == 2),
                    "image_id": image, "bbox": [4, 6, 10, 12], "category_id": 18, "id": ann,
                }
            )  # fmt: skip
            write(folder / f"train2014/COCO_train2014_{image:012}.jpg", picture(image, (_H, _W)))
            full = {"refcoco+": "refcocoplus"}.get(name, name)
            if split != "train":
                expected.setdefault(f"{full}_{split}", []).extend(
                    {"question_id": f"{name}/{7 * ann}/{2 * ann + n}", "image_id": image,
                     "phrases": [f"the dog {n}"]}
                    for n in range(2)
                )  # fmt: skip
            elif not (s and image == 1):
                expected["train"].append(
                    {"question_id": f"train/{image}", "image_id": image,
                     "phrases": ["the dog 0", "the dog 1"]}
                )  # fmt: skip
        content = {"images": images, "annotations": annotations, "categories": []}
        members = {
            f"{name}/refs({by}).p": pickle.dumps(refs, protocol=2),
            f"{name}/refs(google).p": pickle.dumps([], protocol=2),
            f"{name}/instances.json": content,
        }
        write_zip(folder / f"{name}.zip", members)
    return expected
