"""DocLayNet: COCO's format, with files named by hashes and keys of its own."""

from fixture import picture, write_zip
from make_coco_detection import FOUND, annotations


def make(folder):
    members, expected = {}, {}
    for i, split in enumerate(("train", "val", "test")):
        name = f"{i:064x}.png"
        image = {
            "id": i, "file_name": name, "height": 32, "width": 64, "doc_category": "patents",
            "collection": "uspto", "doc_name": "US1.pdf", "page_no": 2, "precedence": 0,
        }  # fmt: skip
        things = [{**row, "iscrowd": 0, "precedence": 0} for row in annotations(i, 10 * i + 1)[:2]]
        categories = [{"id": 1, "name": "Page-header"}, {"id": 13, "name": "Text"}]
        members[f"COCO/{split}.json"] = {
            "categories": categories, "images": [image], "annotations": things,
        }  # fmt: skip
        members[f"PNG/{name}"] = picture(i, (32, 64), "PNG")
        labels = {"labels": ["Page-header", "Text"], "crowd_boxes": [], "crowd_labels": []}
        expected[split] = [{"image_id": i, **FOUND, **labels}]
    write_zip(folder / "DocLayNet_core.zip", members)
    return expected
