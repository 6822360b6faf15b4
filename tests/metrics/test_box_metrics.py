import itertools

import numpy as np
import pytest

from pgjax.metrics.boxes import all_boxes_iou, box_iou, iou
from pgjax.text.locations import format_boxes


def pixel_iou(a, b, n=48):
    """Counts grid cells; exact for integer corners."""
    masks = np.zeros((2, n, n), bool)
    for mask, (y0, x0, y1, x1) in zip(masks, (a, b), strict=True):
        mask[y0:y1, x0:x1] = True
    return (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()


def random_box(rng, n=48):
    y0, y1 = sorted(rng.choice(n, 2, replace=False).tolist())
    x0, x1 = sorted(rng.choice(n, 2, replace=False).tolist())
    return y0, x0, y1, x1


def test_iou_counts_pixels():
    rng = np.random.default_rng(0)
    for _ in range(500):
        a, b = random_box(rng), random_box(rng)
        assert iou(a, b) == pytest.approx(pixel_iou(a, b))
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_box_iou():
    meta = {"boxes": [[0.25, 0.25, 0.75, 0.75], [0, 0, 0.1, 0.1]]}
    assert box_iou("<loc0256><loc0256><loc0768><loc0768> cat", meta) == {"iou": 1.0, "acc": 1.0}
    half = box_iou("<loc0256><loc0256><loc0768><loc0512> cat", meta)
    assert half == {"iou": 0.5, "acc": 1.0}
    first_counts = "<loc0000><loc0000><loc0100><loc0100> a ; <loc0256><loc0256><loc0768><loc0768> a"
    assert box_iou(first_counts, meta) == {"iou": 0.0, "acc": 0.0}


@pytest.mark.parametrize("text", ["", "cat", "<loc0001><loc0002> cat", "<loc0768>" * 3])
def test_box_iou_of_nonsense_is_zero(text):
    assert box_iou(text, {"boxes": [[0, 0, 1, 1]]}) == {"iou": 0.0, "acc": 0.0}


def test_all_boxes_iou():
    boxes = [[0, 0, 0.5, 0.5], [0.5, 0.5, 0.75, 0.75], [0, 0.5, 0.25, 1023 / 1024]]
    for order in itertools.permutations(boxes):
        scores = all_boxes_iou(format_boxes(order, "abc"), {"boxes": boxes})
        assert scores == {"iou": pytest.approx(1.0), "acc": 1.0}
    missing = all_boxes_iou(format_boxes(boxes[:2], "ab"), {"boxes": boxes})
    assert missing == {"iou": pytest.approx(2 / 3), "acc": 0.0}
    invented = all_boxes_iou(format_boxes(boxes, "abc"), {"boxes": boxes[:1]})
    assert invented == {"iou": pytest.approx(1 / 3), "acc": 0.0}
    twice = all_boxes_iou(format_boxes([boxes[0]] * 2, "aa"), {"boxes": boxes[:2]})
    assert twice == {"iou": pytest.approx(0.5), "acc": 0.0}
    assert all_boxes_iou("none", {"boxes": []}) == {"iou": 1.0, "acc": 1.0}
