"""Widget Captioning: captions joined by bars, nodes as paths into a tree, bounds in its pixels.

Some captions are of screens that were not released, and are in no split.
"""

from fixture import picture, write

_TREE = {
    "activity": {
        "root": {
            "bounds": [0, 0, 1440, 2560],
            "children": [
                {"bounds": [0, 0, 10, 10]},
                {"bounds": [0, 0, 1440, 1280], "children": [{"bounds": [360, 640, 1440, 1280]}]},
            ],
        }
    },
    "request_id": "1",
}


def make(folder):
    rows, expected = ["999,0.0,not released"], {}
    for i, split in enumerate(("train", "dev", "test")):
        screen = str(100 + i)
        rows += [f"{screen},0.1.0,go back|return | back", f"{screen},0.0,x"]
        write(folder / f"{split}.txt", f"{screen}\n")
        write(folder / f"combined/{screen}.jpg", picture(i, (64, 36)))
        write(folder / f"combined/{screen}.json", _TREE)
        expected[split] = [
            {"image_id": f"{screen}_0.1.0", "answers": ["go back", "return", "back"]},
            {"image_id": f"{screen}_0.0", "answers": ["x"]},
        ]
    write(folder / "widget_captions.csv", "screenId,nodeId,captions\n" + "\n".join(rows) + "\n")
    return expected
