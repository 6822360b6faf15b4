import numpy as np
import pytest

from pgjax.data.draw import FONT_SIZE, RIGHT, WRONG, SheetItem, contact_sheet, draw_boxes


def count(picture, color):
    """How many pixels have exactly this colour, "#rrggbb"."""
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.asarray(picture) == rgb).all(-1).sum())


def test_draw_boxes_outlines_and_leaves_the_input():
    image = np.zeros((64, 64, 3), np.uint8)
    drawn = draw_boxes(image, [(10, 20, 30, 50)], [""], ["#ff0000"])
    assert drawn.dtype == np.uint8 and drawn.shape == image.shape and not image.any()
    expected = np.zeros((64, 64), bool)
    expected[10:30, 20:50] = True
    expected[11:29, 21:49] = False
    np.testing.assert_array_equal(drawn[..., 0] == 255, expected)


def test_draw_boxes_colors_go_by_label():
    image = np.zeros((200, 200, 3), np.uint8)
    boxes = [(50, 20, 70, 40), (50, 120, 70, 140), (120, 20, 150, 60)]
    drawn = draw_boxes(image, boxes, ["a", "b", "a"])
    a, b, c = (drawn[y0, x0 + 9] for y0, x0, _, _ in boxes)
    assert (a == c).all() and (a != b).any()


@pytest.mark.parametrize(
    "box", [(-50, -50, 500, 500), (30, 30, 30, 30), (40, 40, 10, 10), (90, 90, 99, 99)]
)
@pytest.mark.parametrize("label", ["cat", "日本 é 🐈", "a\nb\0\ud800", "w" * 300])
def test_draw_boxes_takes_anything(box, label):
    image = np.zeros((64, 48, 3), np.uint8)
    assert draw_boxes(image, [box], [label]).shape == image.shape
    assert draw_boxes(image, np.zeros((0, 4)), []).sum() == 0


def test_contact_sheet_colors_answers():
    image = np.full((64, 64, 3), 128, np.uint8)
    right = contact_sheet([SheetItem(image, "q?", "yes", "yes")], 4, 2)
    wrong = contact_sheet([SheetItem(image, "q?", "no", "yes")], 4, 2)
    unknown = contact_sheet([SheetItem(image, "q?", "no")], 4, 2)
    near = contact_sheet([SheetItem(image, "q?", "a", "b", right=True)], 4, 2)
    assert [count(sheet, RIGHT) > 0 for sheet in (right, wrong, unknown, near)] == [1, 0, 0, 1]
    assert [count(sheet, WRONG) > 0 for sheet in (right, wrong, unknown, near)] == [0, 1, 0, 0]


def test_contact_sheet_lays_out_and_enlarges():
    images = [np.full((64, 64, 3), 10 * i, np.uint8) for i in range(1, 6)]
    sheet = contact_sheet([SheetItem(image, "p", "a") for image in images], columns=3, scale=4)
    assert sheet.mode == "RGB"
    for i in range(1, 6):  # All but the frame of the enlarged image.
        assert count(sheet, f"#{10 * i:02x}{10 * i:02x}{10 * i:02x}") >= 254**2
    two = contact_sheet([SheetItem(image, "p", "a") for image in images[:2]], columns=3, scale=4)
    assert two.width < sheet.width and two.height < sheet.height


def test_contact_sheet_wraps_and_survives_unicode():
    image = np.zeros((32, 32, 3), np.uint8)
    short = contact_sheet([SheetItem(image, "p", "a", "a")], 1, 2)
    text = "długie zdanie 日本語 " * 10 + "x" * 200 + "\n\0\ud800"
    long = contact_sheet([SheetItem(image, text, text, "a")], 1, 2)
    assert long.width == short.width and long.height > short.height + 10 * FONT_SIZE
