"""What readers do to pixels: letters over labels, and turned images upright."""

import io

import numpy as np
from fixture import picture
from PIL import Image

from pgjax.benchmarks.official_files import Member
from pgjax.benchmarks.readers import ai2d, textvqa
from pgjax.data.decode import decode_image


def member(folder, data):
    path = folder / "x.png"
    path.write_bytes(data)
    return Member("x.png", str(path))


def test_letters_over_labels(tmp_path):
    before = decode_image(picture(1, (60, 80), "PNG"))
    example = {
        "image": member(tmp_path, picture(1, (60, 80), "PNG")),
        "label_boxes": [[10, 5, 50, 35]],  # x0, y0, x1, y1
        "label_texts": ["B"],
    }
    after = decode_image(ai2d.build(example)["image"])
    inside = np.zeros((60, 80), bool)
    inside[5:36, 10:51] = True
    np.testing.assert_array_equal(after[~inside], before[~inside])
    box = after[inside].reshape(31, 41, 3)
    assert (box == box[..., :1]).all(), "black on white"
    dark = np.argwhere(box[..., 0] < 64)
    assert len(dark) > 50
    height, width = np.ptp(dark, axis=0) + 1
    assert 15 < height <= 31 and 10 < width < 41  # as large as fits, and not cut
    assert abs(dark[:, 1].min() - (40 - dark[:, 1].max())) < 8, "in the middle"


def test_turned_counterclockwise(tmp_path):
    """Open Images: by how many degrees an image is to be rotated counterclockwise."""
    upright = np.zeros((24, 40, 3), np.uint8)
    upright[:12, :, 0] = 255  # red above
    upright[:, :20, 2] = 255  # blue on the left
    for degrees in (0, 90, 180, 270):
        out = io.BytesIO()
        turned = np.rot90(upright, -degrees // 90)
        Image.fromarray(np.ascontiguousarray(turned)).save(out, "PNG")
        example = {"image": member(tmp_path, out.getvalue()), "rotation": degrees}
        image = textvqa.upright(example)["image"]
        pixels = decode_image(image if isinstance(image, bytes) else image.read())
        assert pixels.shape == upright.shape
        assert np.abs(pixels.astype(int) - upright)[4:8, 4:8].max() < 40
        assert np.abs(pixels.astype(int) - upright)[-8:-4, -8:-4].max() < 40
