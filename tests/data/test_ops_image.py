import numpy as np
import pytest

from pgjax.data.pipeline import Pipeline
from pgjax.errors import DataError, UserError


def run(spec, seed=0, **example):
    return Pipeline.parse(spec)(example, rng=np.random.default_rng(seed))


def scene(rows=40, cols=60, box=(10, 20, 30, 50)):
    """A white rectangle on black: its box in fractions and its mask must stay where it is."""
    y0, x0, y1, x1 = box
    mask = np.zeros((1, rows, cols), bool)
    mask[0, y0:y1, x0:x1] = True
    image = np.repeat(mask[0, ..., None], 3, -1).astype(np.uint8) * 255
    return {"image": image, "boxes": [[y0 / rows, x0 / cols, y1 / rows, x1 / cols]], "masks": mask}


def box_of(image):
    """(y0, x0, y1, x1) as fractions, of the white pixels."""
    rows, cols = np.flatnonzero(image[..., 0].any(1)), np.flatnonzero(image[..., 0].any(0))
    height, width = image.shape[:2]
    return [rows[0] / height, cols[0] / width, (rows[-1] + 1) / height, (cols[-1] + 1) / width]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "spec",
    [
        "flip_lr(1.0)",
        "flip_lr",
        "pad_to_square",
        "crop((0.1, 0.2, 0.6, 0.7))",
        "center_crop((30, 40))",
        "random_crop(30)",
        "inception_crop(40, 100)",
        "inception_crop(40)|flip_lr|pad_to_square|random_crop(20)",
    ],
)
def test_boxes_and_masks_move_with_the_image(spec, seed):
    out = run(spec, seed, **scene())
    assert np.shape(out["boxes"]) == (1, 4)
    if not out["image"].any():  # the crop missed the rectangle: no area is left
        y0, x0, y1, x1 = out["boxes"][0]
        assert (y1 - y0) * (x1 - x0) == 0
        return
    np.testing.assert_allclose(out["boxes"][0], box_of(out["image"]), atol=1e-9)
    np.testing.assert_array_equal(out["masks"][0], out["image"][..., 0] > 0)


def test_frames_are_cropped_alike():
    frames = np.stack([scene()["image"], scene()["image"] // 2])
    for spec in ("random_crop(20)", "flip_lr(1.0)", "pad_to_square", "crop((0, 0, 0.5, 0.5))"):
        both = run(spec, 4, image=frames)["image"]
        np.testing.assert_array_equal(both[0], run(spec, 4, image=frames[0])["image"])


def test_crop_by_a_key_and_sizes():
    image = np.arange(10 * 12 * 3, dtype=np.uint8).reshape(10, 12, 3)
    out = run("crop('where')", image=image, where=[0.2, 0.25, 0.8, 1.0])
    np.testing.assert_array_equal(out["image"], image[2:8, 3:])
    assert run("center_crop((4, 6))", image=image)["image"].shape == (4, 6, 3)
    np.testing.assert_array_equal(run("center_crop(4)", image=image)["image"], image[3:7, 4:8])
    with pytest.raises(DataError, match="cannot crop 11x11 from 10x12 pixels"):
        run("random_crop(11)", image=image)
    with pytest.raises(DataError, match="has no area inside the image"):
        run("crop((0.5, 0.5, 0.5, 0.9))", image=image)


def test_pad_to_square_is_even():
    image = np.full((2, 5, 3), 9, np.uint8)
    out = run("pad_to_square(7)", image=image)["image"]
    assert out[:, 0, 0].tolist() == [7, 9, 9, 7, 7]


def test_flip_probability_and_seed():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    flipped = [
        bool((run("flip_lr(0.25)", s, image=image)["image"] != image).any()) for s in range(200)
    ]
    assert 30 < sum(flipped) < 70
    assert flipped[7] == bool((run("flip_lr(0.25)", 7, image=image)["image"] != image).any())


def test_inception_crop_area():
    image = np.zeros((100, 150, 3), np.uint8)
    for seed in range(40):
        height, width = run("inception_crop(20, 50)", seed, image=image)["image"].shape[:2]
        assert 0.19 < height * width / 15000 < 0.51
        assert 0.7 < width / height < 1.4


def test_no_boxes_and_bad_boxes():
    image = np.zeros((4, 6, 3), np.uint8)
    assert run("flip_lr(1.0)", image=image, boxes=[])["boxes"].shape == (0, 4)
    with pytest.raises(DataError, match=r"'boxes' has shape \(1, 3\), expected \[N, 4\]"):
        run("pad_to_square", image=image, boxes=[[0, 0, 1]])
    with pytest.raises(DataError, match=r"'masks' has shape \(1, 4, 5\), expected \[N, 4, 6\]"):
        run("pad_to_square", image=image, masks=np.zeros((1, 4, 5)))


def test_resize_keeps_aspect():
    image = np.zeros((30, 61, 3), np.uint8)
    assert run("resize_small(15)", image=image)["image"].shape == (15, 30, 3)
    assert run("resize_long(20)", image=image)["image"].shape == (10, 20, 3)
    assert run("resize_long(1)", image=image)["image"].shape == (1, 1, 3)


def test_several_images_are_stacked_by_resize():
    images = [np.full((4, 6, 3), 10, np.uint8), np.full((9, 5), 20, np.uint8)]
    out = run("decode|resize(8)|value_range(0, 1)", image=images)["image"]
    assert out.shape == (2, 8, 8, 3)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[1], 20 / 255, rtol=1e-6)
    with pytest.raises(DataError, match=r"op 2 .*'image' is list, expected \[H, W, 3\]"):
        run("decode|value_range", image=images)
    with pytest.raises(DataError, match="'image' is an empty list"):
        run("decode", image=[])


def test_value_range():
    image = np.array([0, 51, 255], np.uint8).reshape(1, 1, 3)
    np.testing.assert_allclose(
        run("value_range", image=image)["image"].ravel(), [-1, -0.6, 1], atol=1e-6
    )
    clipped = run("value_range(0, 1, 0, 100, True)", image=image)["image"]
    np.testing.assert_allclose(clipped.ravel(), [0, 0.51, 1], atol=1e-6)


def test_undecoded_image_and_bad_size():
    with pytest.raises(DataError, match=r"'image' is bytes, expected .* decode"):
        run("resize(8)", image=b"\x89PNG")
    for size in ("0", "(1, 2, 3)", "'224'", "1.5"):
        with pytest.raises((UserError, DataError), match="size"):
            run(f"resize({size})", image=np.zeros((4, 4, 3), np.uint8))
