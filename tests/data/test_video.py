import sys

import numpy as np
import pytest
from conftest import TESTS

from pgjax.data.pipeline import Pipeline
from pgjax.data.video import read_frames
from pgjax.errors import DataError, UserError

pytest.importorskip("av")
sys.path.append(str(TESTS / "benchmarks"))

from fixture import film, picture


def numbers(frames):
    """Which frames these are: frame i of the film is gray 6·i."""
    means = [frame.mean() / 6 for frame in frames]
    rounded = [round(m) for m in means]
    np.testing.assert_allclose(means, rounded, atol=0.4)
    return rounded


@pytest.mark.parametrize("form", ["mp4", "mkv", "avi", "webm"])
@pytest.mark.parametrize(
    ("count", "stride", "part", "expected"),
    [
        (4, 9, {}, [0, 9, 18, 27]),
        (3, 1, {}, [0, 1, 2]),
        (4, 15, {}, [0, 15, 30, 0]),  # too short: it starts over
        (3, 5, {"start": 1.0}, [10, 15, 20]),
        (5, 5, {"start": 2.0, "stop": 3.0}, [20, 25, 30, 20, 25]),
        (2, 3, {"start": 3.9, "stop": 9.0}, [39, 39]),
    ],
)
def test_which_frames(form, count, stride, part, expected):
    frames = read_frames(film(0, 40, form), count, stride, **part)
    assert numbers(frames) == expected
    assert all(frame.shape == (32, 48, 3) and frame.dtype == np.uint8 for frame in frames)


def test_what_is_no_video():
    whole = film(0)
    for data in (b"", b"nothing", whole[:60]):
        with pytest.raises(DataError, match="the video is damaged or of an unknown format"):
            read_frames(data, 2, 1)
    with pytest.raises(DataError, match="no frame from 7 s to its end"):
        read_frames(whole, 2, 1, start=7.0)
    with pytest.raises(UserError, match="frames 0 and stride 1"):
        read_frames(whole, 0, 1)


def test_op():
    pipeline = Pipeline.parse("video(2, stride=20)|decode|resize(16)|value_range(-1, 1)")
    image = pipeline({"image": film(0)})["image"]
    assert image.shape == (2, 16, 16, 3) and image.dtype == np.float32
    np.testing.assert_allclose(image.mean((1, 2, 3)), [-1, 120 / 127.5 - 1], atol=0.02)
    with pytest.raises(DataError, match="'image' holds a list, expected a video file's bytes"):
        pipeline({"image": [picture(0)]})
