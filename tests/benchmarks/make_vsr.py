"""VSR: two ways to split the same statements, in lines of JSON; images of COCO 2017."""

import json

from fixture import picture, write


def make(folder):
    expected = {}
    for k, kind in enumerate(("random", "zeroshot")):
        for part in ("train", "dev", "test"):
            rows, year = [], "val2017" if part == "dev" else "train2017"
            for i in range(3):
                name = f"{i + 10 * k:012}.jpg"
                write(folder / f"{year}/{name}", picture(i))
                rows.append({
                    "image": name, "image_link": f"http://images.cocodataset.org/{year}/{name}",
                    "caption": "The cat is under the car.", "label": i % 2, "relation": "under",
                    "annotator_id": 2, "vote_true_validator_id": "[18, 2]",
                    "vote_false_validator_id": "[]",
                })  # fmt: skip
            write(
                folder / f"splits/{kind}/{part}.jsonl", "".join(f"{json.dumps(r)}\n" for r in rows)
            )
            expected[f"{kind}_{part}"] = [
                {
                    "question_id": f"{kind}_{part}/{i}",
                    "image_id": row["image"],
                    "answers": [("False", "True")[row["label"]]],
                    "relation": "under",
                }
                for i, row in enumerate(rows)
            ]
    return expected
