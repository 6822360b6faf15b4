"""Reads frames of video files with PyAV."""

import io
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pgjax.errors import DataError, UserError


def read_frames(
    data: bytes, count: int, stride: int, start: float = 0.0, stop: float | None = None
) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Reads every `stride`-th frame of a video, or of a part of it.

    Where there are fewer than `count` frames, they are repeated from the first, as in big_vision.

    Args:
      data: the file's bytes.
      count: number of frames.
      stride: distance from one frame to the next, in frames.
      start: beginning of the part, in seconds.
      stop: end of the part, in seconds; None for the end of the video.

    Returns:
      `count` arrays, uint8 [H, W, 3].

    Raises:
      UserError: PyAV is not installed, or count or stride are not positive.
      DataError: the file holds no video or a damaged one, or the part has no frame.
    """
    try:
        import av
    except ImportError:
        raise UserError("video files need PyAV: pip install 'paligemma-jax[video]'.") from None
    if count < 1 or stride < 1:
        raise UserError(f"frames {count} and stride {stride}: expected at least 1 of each.")
    try:
        # Titles in another encoding than UTF-8 are no reason to refuse a video.
        with av.open(io.BytesIO(data), metadata_errors="replace") as container:
            if not container.streams.video:
                raise DataError("the file has no video stream.")
            frames = _pick(container, count, stride, start, stop)
    except UserError:
        raise
    except Exception as e:  # FFmpeg's errors, and what damaged headers lead PyAV to
        raise DataError(f"the video is damaged or of an unknown format ({e}).") from e
    if not frames:
        raise DataError(f"the video has no frame from {start:g} s to {stop or 'its end'}.")
    return [frames[i % len(frames)] for i in range(count)]


def _pick(
    container: Any, count: int, stride: int, start: float, stop: float | None
) -> list[np.ndarray]:
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    zero = float((stream.start_time or 0) * stream.time_base)
    if start > 0:  # seeks to the key frame before
        container.seek(int((start + zero) / stream.time_base), stream=stream)
    frames, index = [], 0
    for frame in container.decode(stream):
        time = None if frame.time is None else frame.time - zero
        if time is not None and time < start - 1e-6:
            continue
        if time is not None and stop is not None and time > stop:
            break
        if index % stride == 0:
            frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == count:
                break
        index += 1
    return frames
