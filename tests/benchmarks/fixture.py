"""What fixtures share: tiny images, archives, JSON files."""

import io
import json
import pathlib
import zipfile
from typing import Any

import numpy as np
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (24, 20), form: str = "JPEG") -> bytes:
    """A tiny image, (height, width) pixels, different for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()


def write(path: pathlib.Path, content: bytes | str | Any) -> None:
    """Writes bytes or text; anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, bytes | str):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_zip(path: pathlib.Path, members: dict[str, bytes | str | Any]) -> None:
    """Writes an archive of such contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, content in members.items():
            z.writestr(name, content if isinstance(content, bytes | str) else json.dumps(content))


def film(seed: int, count: int = 40, form: str = "mp4", fps: int = 10) -> bytes:
    """A tiny video, 48x32 pixels; frame i is gray, brighter by 6 than the one before."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format={"mkv": "matroska"}.get(form, form)) as container:
        stream = container.add_stream("mpeg4" if form != "webm" else "libvpx", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.bit_rate = 4_000_000
        for i in range(count):
            pixels = np.full((32, 48, 3), (seed + 6 * i) % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()
