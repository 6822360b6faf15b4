"""Masks into and out of boxes: the reference's strings and scores are in test_mask_codec."""

import numpy as np
import pytest

from pgjax.data.masks import crop_mask, mask_box, paste_mask
from pgjax.errors import DataError


def disc(height, width, y, x, radius):
    rows, columns = np.mgrid[:height, :width]
    return (rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2 < radius**2


def test_box_bounds_the_mask():
    mask = np.zeros((20, 10), bool)
    mask[3, 2] = mask[7, 8] = True
    assert mask_box(mask) == (3 / 20, 2 / 10, 8 / 20, 9 / 10)
    with pytest.raises(DataError, match="20x10 pixels is empty"):
        mask_box(np.zeros((20, 10), bool))


def test_a_mask_survives_crop_and_paste():
    mask = disc(200, 300, 90, 140, 60)
    box = mask_box(mask)
    small = crop_mask(mask, box)
    assert small.shape == (64, 64) and small.dtype == np.float32
    assert small.mean() == pytest.approx(np.pi / 4, abs=0.01)  # a disc in its square
    back = paste_mask(2 * small - 1, box, mask.shape)
    assert back.dtype == bool and back.shape == mask.shape
    assert (back & mask).sum() / (back | mask).sum() > 0.97


def test_crop_is_the_mean_of_the_pixels_where_sizes_divide():
    mask = np.random.default_rng(0).random((128, 128)) < 0.5
    got = crop_mask(np.kron(mask, np.ones((1, 1))), (0, 0, 1, 1))
    assert got.mean() == pytest.approx(mask.mean(), abs=1e-2)
    with pytest.raises(DataError, match="covers no pixel"):
        crop_mask(mask, (0.5, 0.5, 0.501, 0.9))


@pytest.mark.parametrize("box", [(0, 0, 0.001, 0.001), (0.999, 0.999, 1, 1), (0.2, 0.2, 0.2, 0.9)])
def test_a_tiny_box_covers_a_pixel(box):
    mask = paste_mask(np.ones((64, 64), np.float32), box, (50, 40))
    assert mask.sum() >= 1


def test_nothing_outside_of_the_box():
    mask = paste_mask(np.ones((64, 64), np.float32), (0.25, 0.5, 0.75, 1.0), (100, 60))
    assert mask[25:75, 30:].all() and mask.sum() == 50 * 30
    assert not paste_mask(np.full((64, 64), -1, np.float32), (0, 0, 1, 1), (10, 10)).any()
