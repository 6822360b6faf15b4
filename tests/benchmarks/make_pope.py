"""POPE: JSON lines called .json; ids that begin anew in each file."""

import json

from fixture import picture, write


def make(folder):
    expected = {}
    name = "COCO_val2014_000000310196.jpg"
    for split in ("random", "popular", "adversarial"):
        rows = [
            {"question_id": n + 1, "image": name, "label": ("yes", "no")[n],
             "text": f"Is there a {thing} in the image?"}
            for n, thing in enumerate(("snowboard", "car"))
        ]  # fmt: skip
        write(folder / f"coco_pope_{split}.json", "\n".join(map(json.dumps, rows)) + "\n")
        expected[split] = [
            {"question_id": f"{split}/{n}", "question": row["text"], "answers": [row["label"]]}
            for n, row in enumerate(rows)
        ]
    write(folder / "val2014" / name, picture(1))
    return expected
