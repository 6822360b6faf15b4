"""What readers of video benchmarks share: finding a video, and sampling its frames."""

import io
from typing import Any

from PIL import Image

from pgjax.benchmarks.official_files import Files, Member
from pgjax.benchmarks.reader import Example
from pgjax.data.video import read_frames

SUFFIXES = (".mp4", ".mkv", ".webm", ".avi")
QUALITY = 95  # of the frames as JPEG

WHERE = "Videos become frames by PyAV: pip install 'paligemma-jax[video]'."


def options(frames: int, stride: int) -> dict[str, Any]:
    """Options of a reader: frames, their distance, and the most pixels of their shorter side."""
    return {"frames": frames, "stride": stride, "size": 448}


def video(files: Files, name: str) -> Member:
    """Finds a video by its name without suffix; it may be missing, as many are no longer online."""
    return files.first(*(name + suffix for suffix in SUFFIXES))


def build(example: Example, *, frames: int, stride: int, size: int) -> Example:
    """Replaces the video by frames, of the part from `start` to `stop` seconds if given."""
    part = {key: example[key] for key in ("start", "stop") if key in example}
    arrays = read_frames(example["image"].read(), frames, stride, **part)
    return {**example, "image": [_jpeg(array, size) for array in arrays]}


def _jpeg(array: Any, size: int) -> bytes:
    picture, out = Image.fromarray(array), io.BytesIO()
    scale = size / min(picture.size)
    if scale < 1:
        picture = picture.resize([round(side * scale) for side in picture.size])
    picture.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
