"""COCO objects: crowds, images without objects, ids of categories with gaps."""

from fixture import picture, write, write_zip

CATEGORIES = [
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "outdoor", "id": 13, "name": "stop sign"},
]


def annotations(image, number):
    """Three objects in an image of 32 x 64 pixels, of which the last is a crowd."""
    boxes = ([16, 8, 32, 16], [0, 0, 8, 8], [32, 0, 32, 32])
    return [
        {
            "id": number + i, "image_id": image, "category_id": (1, 13, 1)[i], "bbox": box,
            "area": box[2] * box[3] / 2, "iscrowd": int(i == 2),
            "segmentation": {"counts": [0, 2048], "size": [32, 64]} if i == 2 else [[0] * 6],
        }
        for i, box in enumerate(boxes)
    ]  # fmt: skip


FOUND = {
    "size": [32, 64],
    "boxes": [[0.25, 0.25, 0.75, 0.75], [0, 0, 0.25, 0.125]],
    "labels": ["person", "stop sign"],
    "areas": [256.0, 32.0],
    "crowd_boxes": [[0, 0.5, 1, 1]],
    "crowd_labels": ["person"],
}


def make(folder):
    members, expected = {}, {}
    for s, split in enumerate(("train", "val")):
        images, things = [], []
        for i in (0, 1):
            image = 100 * s + i + 1
            images.append(
                {"id": image, "file_name": f"{image:012}.jpg", "height": 32, "width": 64,
                 "license": 3, "coco_url": "http://…"}
            )  # fmt: skip
            things += annotations(image, 10 * image) if i == 0 else []
            write(folder / f"{split}2017/{image:012}.jpg", picture(image, (32, 64)))
            row = FOUND if i == 0 else {key: [] for key in FOUND} | {"size": [32, 64]}
            expected.setdefault(split, []).append({"image_id": image, **row})
        content = {"info": {}, "images": images, "annotations": things, "categories": CATEGORIES}
        members[f"annotations/instances_{split}2017.json"] = content
    write_zip(folder / "annotations_trainval2017.zip", members)
    return expected
