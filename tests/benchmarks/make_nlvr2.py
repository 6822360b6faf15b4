"""NLVR2: JSON lines; training images in numbered folders; several sentences about two images."""

import json

from fixture import picture, write


def make(folder):
    expected = {}
    for i, (split, file) in enumerate((("train", "train"), ("dev", "dev"), ("test", "test1"))):
        rows = []
        for n in range(2):
            row = {
                "sentence": f"The left image has {n} dogs.", "label": str(n == 0), "writer": "54",
                "identifier": f"{file}-{i}0-2-{n}", "synset": "dog", "query": "dogs",
                "left_url": "https://…", "right_url": "https://…", "validation": {"a": "True"},
            }  # fmt: skip
            rows.append({**row, "directory": 38} if file == "train" else row)
        write(folder / f"data/{file}.json", "\n".join(map(json.dumps, rows)) + "\n")
        place = folder / "images" / file / ("38" if file == "train" else "")
        for side in (0, 1):
            size = (20 + 4 * side, 24)  # the two differ
            write(place / f"{file}-{i}0-2-img{side}.png", picture(2 * i + side, size, "PNG"))
        expected[split] = [
            {"question_id": r["identifier"], "question": r["sentence"], "answers": [r["label"]]}
            for r in rows
        ]
    return expected
