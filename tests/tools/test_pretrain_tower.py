"""What the image tower is asked when it is pretrained, cell by cell."""

import numpy as np
import pytest
from conftest import ROOT

from pgjax.data.scenes import CELLS, COLORS, OUTLINES, SIDES, SceneSource, Shape


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import pretrain_tower

    return pretrain_tower


def test_patch_answers_are_the_shape_with_most_cells(tool):
    source = SceneSource(tasks=["caption"], max_shapes=3)
    for i in range(20):
        _, shapes = source.draw(i)
        got = tool.patch_answers(shapes, 8).reshape(8, 8, 7)
        for y in range(8):
            for x in range(8):
                cells = {(r, c) for r in range(4 * y, 4 * y + 4) for c in range(4 * x, 4 * x + 4)}
                count = [
                    sum(s.box[0] <= r < s.box[2] and s.box[1] <= c < s.box[3] for r, c in cells)
                    for s in shapes
                ]
                kind, color, size, *box = got[y, x]
                if max(count) == 0:
                    assert not got[y, x].any()
                    continue
                best = [s for s, n in zip(shapes, count, strict=True) if n == max(count)]
                word = [list(OUTLINES)[kind - 1], list(COLORS)[color - 1], list(SIDES)[size - 1]]
                assert (*word, tuple(box)) in [(s.kind, s.color, s.size, s.box) for s in best]


def test_patch_coverage_is_a_small_picture_of_the_scene(tool):
    shapes = [
        Shape("square", "red", "small", (1, 2, 8, 9)),
        Shape("circle", "blue", "large", (12, 14, 27, 29)),
    ]
    patches = tool.patch_coverage(shapes, 8)
    assert patches.shape == (64, 16) and patches.dtype == np.float32
    picture = patches.reshape(8, 8, 4, 4).swapaxes(1, 2).reshape(CELLS, CELLS)
    assert (picture[1:8, 2:9] == 1).all()
    assert picture[1:8].sum() == 49  # nothing else in these rows
    disc = picture[12:27, 14:29]
    assert disc.sum() == pytest.approx(np.pi * 7.5**2, rel=0.02)
    assert picture.sum() == pytest.approx(49 + disc.sum())
