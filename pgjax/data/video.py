"""Frames of video files, through PyAV."""

import io

import numpy as np

from pgjax.errors import DataError, UserError


def read_frames(
    data: bytes, count: int, stride: int, start: float = 0.0, stop: float | None = None
) -> list[np.ndarray]:
    """Every `stride`-th frame of a video, or of a part of it.

    A shorter one starts over until there are `count` frames, as in big_vision.

    Args:
      data: the file's content.
      count: frames wanted.
      stride: frames from one to the next.
      start: of the part, in seconds.
      stop: its end; None for the video's.

    Returns:
      `count` arrays, uint8 [H,W,3].

    Raises:
      UserError: PyAV is not installed, or count or stride are not positive.
      DataError: no video, a damaged one, or no frame in the part.
    """
    try:
        import av
    except ImportError:
        raise UserError("video files need PyAV: pip install -e '.[video]'") from None
    if count < 1 or stride < 1:
        raise UserError(f"frames {count} and stride {stride}: expected 1 or more of each")
    try:
        with av.open(io.BytesIO(data)) as container:
            if not container.streams.video:
                raise DataError("the file has no video stream")
            frames = _pick(container, count, stride, start, stop)
    except av.FFmpegError as e:
        raise DataError(f"the video is damaged or of an unknown format ({e})") from e
    if not frames:
        raise DataError(f"the video has no frame from {start:g} s to {stop or 'its end'}")
    return [frames[i % len(frames)] for i in range(count)]


def _pick(container, count: int, stride: int, start: float, stop: float | None) -> list[np.ndarray]:
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    zero = float((stream.start_time or 0) * stream.time_base)
    if start > 0:  # to the key frame before
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
