"""FinTabNet: places in points from the lower left corner, pages as pictures of twice their size."""

import json

from fixture import picture, write
from make_pubtabnet import BODY, HEAD, TABLE

_HEIGHT = 60  # of the page in points; the table's upper left corner is 10 points from each edge


def _place(x0, y0, x1, y1):
    """A box in points from the upper left corner of the table, as the files have it."""
    return [x0 + 10, _HEIGHT - 10 - y1, x1 + 10, _HEIGHT - 10 - y0]


def make(folder):
    cells = [
        {"tokens": []},
        {"tokens": ["<b>", "p", " ", "<", "1", "</b>"], "bbox": _place(4, 4, 8, 8)},
        {"tokens": ["A", "&", "B"], "bbox": _place(0, 8, 4, 12)},
        {"tokens": ["2"], "bbox": _place(8, 8, 12, 12)},
        {"tokens": []},
    ]
    expected = {}
    for i, split in enumerate(("train", "val", "test")):
        lines = []
        for table in range(2):
            row = {
                "table_id": 10 * i + table, "filename": f"AAL/200{i}/page_3.pdf", "split": split,
                "bbox": _place(0, 0, 16, 16),
                "html": {"cells": cells, "structure": {"tokens": [*HEAD, *BODY]}},
            }  # fmt: skip
            lines.append(json.dumps(row))
            expected.setdefault(split, []).append(
                {"image_id": f"AAL/200{i}/page_3/{10 * i + table}", "answers": [TABLE],
                 "cells": [1, 2, 3],
                 "boxes": [[0.25, 0.25, 0.5, 0.5], [0.5, 0, 0.75, 0.25], [0.5, 0.5, 0.75, 0.75]]}
            )  # fmt: skip
        write(folder / f"fintabnet/FinTabNet_1.0.0_table_{split}.jsonl", "\n".join(lines))
        write(folder / f"fintabnet/pdf/AAL/200{i}/page_3.pdf", b"%PDF-1.4")
        page = picture(i, (2 * _HEIGHT, 100), "PNG")
        write(folder / f"fintabnet/pdf/AAL/200{i}/page_3.png", page)
    return expected
