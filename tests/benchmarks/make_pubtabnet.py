"""PubTabNet: one file for all splits, tests without tables, spans, cells without content."""

import json

from fixture import picture, write

HEAD = [
    "<thead>",
    "<tr>",
    "<td>",
    "</td>",
    "<td",
    ' colspan="2"',
    ">",
    "</td>",
    "</tr>",
    "</thead>",
]
BODY = ["<tbody>", "<tr>", *["<td>", "</td>"] * 3, "</tr>", "</tbody>"]
CELLS = [
    {"tokens": []},
    {"tokens": ["<b>", "p", " ", "<", "1", "</b>"], "bbox": [5, 6, 10, 12]},
    {"tokens": ["A", "&", "B"], "bbox": [0, 12, 5, 18]},
    {"tokens": ["2"], "bbox": [10, 12, 15, 18]},
    {"tokens": []},
]
TABLE = (
    '<table><thead><tr><td></td><td colspan="2"><b>p &lt;1</b></td></tr></thead>'
    "<tbody><tr><td>A&amp;B</td><td>2</td><td></td></tr></tbody></table>"
)


def html():
    return {"cells": CELLS, "structure": {"tokens": [*HEAD, *BODY]}}


def make(folder):
    lines, expected = [], {"train": [], "val": []}
    for i, split in enumerate(("train", "val", "test", "train")):
        name = f"PMC10{i}_004_00.png"
        row = {"filename": name, "split": split, "imgid": i}
        if split != "test":
            row["html"] = html()
            expected[split].append(
                {"image_id": name, "answers": [TABLE], "cells": [1, 2, 3],
                 "boxes": [[0.25, 0.25, 0.5, 0.5], [0.5, 0, 0.75, 0.25], [0.5, 0.5, 0.75, 0.75]]}
            )  # fmt: skip
        lines.append(json.dumps(row))
        write(folder / f"pubtabnet/{split}/{name}", picture(i, form="PNG"))
    write(folder / "pubtabnet/PubTabNet_2.0.0.jsonl", "\n".join(lines) + "\n")
    return expected
