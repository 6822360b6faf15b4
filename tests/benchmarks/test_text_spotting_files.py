"""Files of words in scenes that are damaged, or that are not there."""

import json
import shutil

import make_text_spotting
import pytest
from fixture import write

from pgjax.benchmarks.preparation import prepare
from pgjax.errors import UserError

TEXTS = "Challenge4_Test_Task4_GT"


def run(folder, **options):
    return prepare("text_spotting", folder / "source", folder / "out", check_counts=False,
                   format="jsonl", **options)  # fmt: skip


def test_sets_that_are_not_there(tmp_path, capsys):
    """Training takes those that are there, and says which are not."""
    make_text_spotting.make(tmp_path / "source")
    for name in ("TextOCR_0.1_train.json", "hiertext/gt/train.jsonl"):
        (tmp_path / "source" / name).unlink()
    shutil.rmtree(tmp_path / "source/mlt19")
    assert run(tmp_path, splits=["train"])["splits"]["train"]["examples"] == 5
    said = capsys.readouterr().err
    assert all(f"{name} is not among" in said for name in ("TextOCR", "HierText", "MLT19"))
    assert "MLT17 is not" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4,5,6,7,8,Hot\n1,2,3,x,5,6,7,8,Hot\n", r"gt_img_1.txt:2: .*record is bad"),
        ("1,2\n", r"gt_img_1.txt:1: it has 1 commas, expected 8 or more"),
    ],
)
def test_lines_that_are_damaged(tmp_path, text, message):
    write(tmp_path / f"source/{TEXTS}/gt_img_1.txt", text)
    with pytest.raises(UserError, match=message):
        run(tmp_path, splits=["icdar15_test"])


def test_an_image_that_is_missing(tmp_path):
    make_text_spotting.make(tmp_path / "source")
    lines = "4,2,40,2,40,14,4,14,Hi\n"
    write(tmp_path / f"source/{TEXTS}/gt_img_9.txt", lines)
    report = run(tmp_path, splits=["icdar15_test"])
    assert report["unreadable"][0]["id"] == "img_9"
    assert "img_9.jpg" in report["unreadable"][0]["reason"]


def test_other_text_than_total_text(tmp_path):
    write(tmp_path / "source/Test/poly_gt_img1.txt", "x: 1, y: 2\n")
    with pytest.raises(UserError, match=r"poly_gt_img1.txt has 'x: 1, y: 2.*, expected 'x: "):
        run(tmp_path, splits=["totaltext_test"])


def test_words_of_an_image_are_in_reading_order():
    """Two lines of words, the first of which slants."""
    from pgjax.benchmarks.readers.text_spotting import _raster

    boxes = [
        (0.3, 0.0, 0.4, 0.2),
        (0.12, 0.0, 0.2, 0.2),
        (0.1, 0.6, 0.18, 0.8),
        (0.1, 0.3, 0.2, 0.5),
    ]
    assert _raster(boxes) == [1, 3, 2, 0] and _raster([]) == []
    assert json.dumps(_raster(boxes[:1])) == "[0]"
