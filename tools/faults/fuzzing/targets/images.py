"""Images, arrays and videos."""

import functools
import io
import pathlib
import random
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image, features

from pgjax.data.decode import FORMATS, MAX_PIXELS, decode_image
from pgjax.data.given_images import read_given
from pgjax.data.video import read_frames
from pgjax.errors import UserError
from tools.faults.fuzzing.children import Target, Wrong
from tools.faults.fuzzing.damage import ODD_VALUES, bytes_of, values_of


def picture(seed: int, size: tuple[int, int] = (20, 15), mode: str = "RGB") -> Image.Image:
    """A picture with smooth and noisy parts."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((*size[::-1], 3), np.uint8)
    pixels[:, : size[0] // 2] = rng.integers(0, 256, 3)
    pixels[:, size[0] // 2 :] = rng.integers(0, 256, pixels[:, size[0] // 2 :].shape)
    return Image.fromarray(pixels).convert(mode)


@functools.cache
def encoded() -> list[bytes]:
    """Whole images of all formats and kinds."""
    wanted: list[tuple[str, str, dict[str, Any]]] = [
        ("JPEG", "RGB", {}), ("JPEG", "RGB", {"progressive": True}), ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}), ("JPEG", "RGB", {"exif": _exif()}),
        ("PNG", "RGB", {}), ("PNG", "RGBA", {}), ("PNG", "L", {}), ("PNG", "LA", {}),
        ("PNG", "P", {}), ("PNG", "P", {"transparency": 3}), ("PNG", "1", {}), ("PNG", "I;16", {}),
        ("GIF", "P", {}), ("GIF", "P", {"transparency": 1}),
        ("GIF", "RGB", {"save_all": True, "append_images": [picture(7), picture(8)]}),
        ("PNG", "RGB", {"save_all": True, "append_images": [picture(7)]}),
        ("WEBP", "RGB", {}), ("WEBP", "RGBA", {"lossless": True}),
        ("TIFF", "RGB", {}), ("TIFF", "L", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "jpeg"}), ("TIFF", "F", {}),
        ("TIFF", "1", {"compression": "group4"}), ("BMP", "RGB", {}), ("BMP", "P", {}),
    ]  # fmt: skip
    if features.check("avif"):
        wanted.append(("AVIF", "RGB", {}))
    found = []
    for seed, (form, mode, options) in enumerate(wanted):
        image, out = picture(seed, mode="L" if mode == "I;16" else mode), io.BytesIO()
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        image.save(out, form, **options)
        found.append(out.getvalue())
    return found


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def check_image(data: bytes, folder: pathlib.Path) -> None:
    """Compares with Pillow's own conversion, where none of it is left to choose."""
    got = decode_image(data)
    with Image.open(io.BytesIO(data), formats=list(FORMATS)) as image:
        if got.shape != (*image.size[::-1], 3) or got.dtype != np.uint8:
            raise Wrong(f"got {got.dtype} {got.shape}, the file says {image.size}")
        plain = image.mode in ("RGB", "L", "P", "1", "CMYK", "YCbCr")
        plain &= "transparency" not in image.info
        if plain and not np.array_equal(got, np.asarray(image.convert("RGB"))):
            raise Wrong(f"other pixels than Pillow's, mode {image.mode}")
    for options in ({"frames": 3}, {"orient": True}, {"draft": 4}):
        try:
            got = decode_image(data, **options)
        except UserError:
            continue
        if got.shape[-1] != 3 or got.dtype != np.uint8 or got.size > 3 * MAX_PIXELS:
            raise Wrong(f"{options}: {got.dtype} {got.shape}")


@st.composite
def _given(draw: Any) -> Any:
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return draw(ODD_VALUES)
    shape = draw(st.lists(st.sampled_from((0, 1, 2, 3, 4, 5, 16)), max_size=5))
    dtype = draw(st.sampled_from(("u1", "i1", "u2", "i4", "f2", "f4", "f8", "?", "c8", "O", "U3")))
    array = np.zeros(shape, dtype)
    if kind == 1 and array.size and dtype.startswith("f"):
        array.flat[0] = draw(st.sampled_from((np.nan, np.inf, -1, 0.5, 255, 1e4)))
    if kind == 2 and array.ndim and dtype != "O":
        array = array[..., ::-1].T
    if kind == 3:
        mode = draw(st.sampled_from(("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "HSV")))
        return Image.new(mode, draw(st.sampled_from(((1, 1), (3, 2), (2, 700)))))
    if kind == 4:
        return [array] * draw(st.integers(0, 2))
    return array


def check_given(value: Any, folder: pathlib.Path) -> None:
    """What is taken is uint8 with three channels."""
    got = read_given(value)
    got = got[0] if isinstance(got, tuple) else got
    if isinstance(got, np.ndarray) and (got.dtype != np.uint8 or got.shape[-1] != 3):
        raise Wrong(f"{got.dtype} {got.shape}")


@functools.cache
def films() -> list[bytes]:
    """Tiny videos."""
    import av

    found = []
    for form, codec in (
        ("mp4", "mpeg4"),
        ("matroska", "mpeg4"),
        ("webm", "libvpx"),
        ("avi", "mpeg4"),
    ):
        out = io.BytesIO()
        with av.open(out, "w", format=form) as container:
            stream = container.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
            for i in range(12):
                pixels = np.full((32, 48, 3), 6 * i, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
        found.append(out.getvalue())
    return found


def check_video(data: bytes, folder: pathlib.Path) -> None:
    """Frames have one size."""
    frames = read_frames(data, 4, 2)
    if len({frame.shape for frame in frames}) != 1 or frames[0].dtype != np.uint8:
        raise Wrong(f"frames {[frame.shape for frame in frames]}")


def _films(rng: random.Random, count: int) -> Any:
    return bytes_of(films)(rng, count)


TARGETS = [
    Target("images", bytes_of(encoded), check_image, 10),
    Target("images given in Python", values_of(_given), check_given, 3),
    Target("videos", _films, check_video, 2),
]
