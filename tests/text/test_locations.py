import numpy as np
import pytest

from pgjax.errors import DataError
from pgjax.text.locations import Box, format_boxes, parse_boxes


def test_one_and_several():
    text = (
        "<loc0256><loc0064><loc0768><loc0512> red circle ; <loc0000><loc0001><loc1022><loc1023> é"
    )
    assert parse_boxes(text) == [
        Box(256 / 1024, 64 / 1024, 768 / 1024, 512 / 1024, "red circle"),
        Box(0, 1 / 1024, 1022 / 1024, 1023 / 1024, "é"),
    ]


def test_round_trip():
    rng = np.random.default_rng(0)
    for n in range(5):
        corners = rng.integers(0, 512, size=(n, 2))
        boxes = np.concatenate([corners, corners + rng.integers(1, 512, size=(n, 2))], 1) / 1024
        labels = [f"label {i}" for i in range(n)]
        parsed = parse_boxes(format_boxes(boxes, labels))
        assert [box[:4] for box in parsed] == [tuple(box) for box in boxes.tolist()]
        assert [box.label for box in parsed] == labels


def test_format():
    assert format_boxes([], []) == ""
    text = format_boxes([(0, 0.5, 1, 1)], ["cat"])
    assert text == "<loc0000><loc0512><loc1023><loc1023> cat"


@pytest.mark.parametrize(
    "box", [(0, 0, 64, 64), (0.5, 0, 0.5, 1), (0.6, 0, 0.5, 1), (-0.1, 0, 1, 1), (0, 0, 1, np.nan)]
)
def test_format_refuses(box):
    with pytest.raises(DataError, match=r"The box of 'cat'.*fractions"):
        format_boxes([box], ["cat"])
    with pytest.raises(DataError, match="1 boxes and 2 labels"):
        format_boxes([(0, 0, 1, 1)], ["a", "b"])


CODES = tuple(range(0, 128, 8))


def test_codes_of_a_mask():
    text = "<loc0001><loc0002><loc0003><loc0004>"
    codes = "".join(f"<seg{code:03d}>" for code in CODES)
    box = (1 / 1024, 2 / 1024, 3 / 1024, 4 / 1024, "cat")
    assert parse_boxes(f"{text}{codes} cat ; ") == [Box(*box, CODES)]
    assert format_boxes([box[:4]] * 2, ["cat", "dog"], [CODES, CODES]) == (
        f"{text}{codes} cat ; {text}{codes} dog"
    )
    # A mask that does not have 16 codes of 128 is none; the box counts all the same.
    for bad in ("<seg012>" * 15, "<seg012>" * 17, "<seg012>" * 15 + "<seg128>"):
        assert parse_boxes(f"{text}{bad} cat") == [Box(*box)]


@pytest.mark.parametrize("codes", [[CODES[:15]], [(*CODES[:15], 128)], [(*CODES[:15], -1)]])
def test_format_refuses_codes(codes):
    with pytest.raises(DataError, match=r"expected 16 in 0\.\.127"):
        format_boxes([(0, 0, 1, 1)], ["cat"], codes)
    with pytest.raises(DataError, match="1 boxes and 2 masks"):
        format_boxes([(0, 0, 1, 1)], ["cat"], [CODES, CODES])


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ; ;; ",
        "cat",
        "<loc0001><loc0002><loc0003> cat",
        "<loc0001><loc0002><loc0003><loc0004><loc0005> cat",
        "<loc0001><loc0002><loc0003><loc1024> cat",
        "<loc0003><loc0002><loc0001><loc0004> swapped",
        "<loc0001><loc0002><loc0001><loc0004> flat",
        "<loc1><loc2><loc3><loc4> cat",
        "<loc0001><loc0002><loc0003><loc0004> cat <loc0005",
        "<loc٠٠٠١><loc0002><loc0003><loc0004> cat",
    ],
)
def test_malformed_is_left_out(text):
    assert parse_boxes(text) == []
    good = "<loc0001><loc0002><loc0003><loc0004> dog"
    assert [box.label for box in parse_boxes(f"{text} ; {good}")] == ["dog"]


def test_anything_goes():
    rng = np.random.default_rng(0)
    pieces = ["<loc0001>", "<loc0900>", "<seg001>", " ", ";", "cat", "<", ">", "\n", "\ud800", "\0"]
    for _ in range(300):
        for box in parse_boxes("".join(rng.choice(pieces, size=12))):
            assert 0 <= box.y0 < box.y1 < 1 and 0 <= box.x0 < box.x1 < 1
            assert "<" not in box.label and ">" not in box.label
