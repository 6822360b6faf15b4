"""Ops on videos."""

from pgjax.data.example import Example
from pgjax.data.video import read_frames
from pgjax.errors import DataError
from pgjax.registry import OPS


@OPS.register("video")
def video(example: Example, count: int, stride: int, *, key: str = "image") -> Example:
    """Turn a video file's bytes into its first count frames, stride apart: [F, H, W, 3]."""
    data = example[key]
    if not isinstance(data, bytes):
        raise DataError(f"{key!r} holds a {type(data).__name__}, expected a video file's bytes.")
    return {**example, key: read_frames(data, count, stride)}
