"""Tables that `pgjax prepare` leaves out, and the HTML with boxes that training reads."""

import json
import sys

import numpy as np
import pytest
from conftest import TESTS

sys.path.append(str(TESTS / "benchmarks"))

import make_fintabnet
import make_pubtabnet

from pgjax.benchmarks.preparation import prepare
from pgjax.data.pipeline import Pipeline
from pgjax.errors import DataError, UserError


def change(path, edit):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        edit(row)
    path.write_text("\n".join(map(json.dumps, rows)))


def run(name, tmp_path, **options):
    return prepare(
        name, tmp_path / "in", tmp_path / "out", format="jsonl", check_counts=False, **options
    )


def test_training_examples_with_cells_outside_of_the_image(tmp_path):
    """Are corrupted; other splits keep them, with the box that is inside."""
    make_pubtabnet.make(tmp_path / "in")

    def far(row):
        if row["imgid"] in (0, 1):
            row["html"]["cells"][3]["bbox"] = [10, 12, 15, 48]

    change(tmp_path / "in/pubtabnet/PubTabNet_2.0.0.jsonl", far)
    report = run("pubtabnet", tmp_path)
    (left,) = report["unreadable"]
    assert left["id"] == "PMC100_004_00.png" and "cell 3 reaches out of the image" in left["reason"]
    rows = (tmp_path / "out/pubtabnet/1.0.0/val.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["boxes"][2] == [0.5, 0.5, 1, 0.75]


def test_cells_and_structure_must_agree(tmp_path):
    make_pubtabnet.make(tmp_path / "in")
    path = tmp_path / "in/pubtabnet/PubTabNet_2.0.0.jsonl"
    change(path, lambda row: row.get("html", {"cells": [1]})["cells"].pop())
    with pytest.raises(UserError, match=r"PubTabNet_2.0.0.jsonl:1: the structure has more cells"):
        run("pubtabnet", tmp_path)


def test_pages_of_another_resolution(tmp_path):
    make_fintabnet.make(tmp_path / "in")
    with pytest.raises(UserError, match="100x120 pixels; pages must be rendered at 300 dpi"):
        run("fintabnet", tmp_path, dpi=300)


def test_the_table_is_cut_out_of_its_page(tmp_path):
    from fixture import picture

    from pgjax.data.decode import decode_image

    make_fintabnet.make(tmp_path / "in")
    run("fintabnet", tmp_path, splits=["test"])
    (image,) = (tmp_path / "out/fintabnet/1.0.0").rglob("*.png")  # of both tables, which are alike
    page = decode_image(picture(2, (120, 100), "PNG"))
    np.testing.assert_array_equal(decode_image(image.read_bytes()), page[20:52, 20:52])


def test_boxes_are_written_into_cells():
    example = {
        "answers": [make_pubtabnet.TABLE],
        "boxes": [[0.25, 0.5, 0.5, 1], [0.5, 0.5, 0.75, 0.5]],
        "cells": [1, 3],
    }
    pipeline = Pipeline.parse("choice_at('answers', 0, 'html')|boxes_to_cells('html')")
    rng = np.random.default_rng(0)
    assert pipeline(example, rng=rng)["suffix"] == make_pubtabnet.TABLE.replace(
        "<b>", "<loc0256><loc0512><loc0512><loc1023><b>", 1
    )
    with pytest.raises(DataError, match=r"'cells' is \[1, 9\], expected .* of 5 cells"):
        pipeline({**example, "cells": [1, 9]}, rng=rng)


def test_boxes_move_with_the_padding():
    example = {
        "image": np.zeros((20, 40, 3), np.uint8),
        "html": "<table><tr><td>a</td></tr></table>",
        "boxes": [[0, 0, 1, 0.5]],
        "cells": [0],
    }
    pipeline = Pipeline.parse("pad_to_square(255)|resize(80)|boxes_to_cells('html')")
    out = pipeline(example, rng=np.random.default_rng(0))
    assert "<td><loc0256><loc0000><loc0768><loc0512>a</td>" in out["suffix"]
    assert out["image"].shape == (80, 80, 3) and (out["image"][:18] == 255).all()
