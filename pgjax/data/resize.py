"""Image resizing with the arithmetic of `tf.image.resize`, as block-banded matrix products.

Output row i is a weighted sum of input rows near (i + ½) · scale. A few neighbouring output rows
need only a short window of input rows, so each axis is a series of small matrix products: the
float32 result in less time than Pillow's integer one takes.
"""

import functools
from typing import Literal, get_args

import numpy as np
from PIL import Image

from pgjax.errors import UserError

Method = Literal["bilinear", "bicubic", "area"]
Rounding = Literal["down", "none", "pillow", "torchvision"]

_BLOCK = 4  # output rows per product: more waste weights that are 0, fewer cost more calls
_MULTIPLICATIONS = 250_000  # per product: below this OpenBLAS stays in the calling thread
_WHOLE = 1e-4  # sums that should be whole come out a few ulp below


def _weight(x: np.ndarray, method: str, scale: float, antialias: bool) -> np.ndarray:
    """Weight of an input pixel whose centre lies `x` pixels from the output pixel's centre."""
    x = np.abs(x)
    if method == "area":  # length of overlap of the pixel with the output pixel's extent
        return np.clip(scale / 2 + 0.5 - x, 0, min(1.0, scale))
    if antialias:
        x = x / max(scale, 1.0)
    if method == "bilinear":
        return np.maximum(0, 1 - x)
    if method == "bicubic":  # Keys (1981), a = -1/2
        near = (1.5 * x - 2.5) * x * x + 1
        return np.where(x < 1, near, np.where(x < 2, ((2.5 - 0.5 * x) * x - 4) * x + 2, 0))
    raise UserError(f"resize method is {method!r}, expected 'bilinear', 'bicubic' or 'area'")


@functools.lru_cache(maxsize=128)
def _bands(n: int, m: int, method: str, antialias: bool, channels: int) -> list[tuple]:
    """Weights from n to m pixels in blocks: (output slice, input slice, float32 matrix).

    The matrix is [outputs, inputs], or for `channels` interleaved values per pixel its transpose
    [inputs · channels, outputs · channels], to multiply from the right.
    """
    scale = n / m
    radius = {"area": scale / 2 + 0.5, "bilinear": 1.0, "bicubic": 2.0}.get(method, 0.0)
    if antialias and method != "area":
        radius *= max(scale, 1.0)
    bands = []
    for start in range(0, m, _BLOCK):
        stop = min(start + _BLOCK, m)
        centre = (np.arange(start, stop) + 0.5) * scale
        low = max(0, int(centre[0] - radius))
        high = min(n, int(centre[-1] + radius) + 1)
        weights = _weight(np.arange(low, high) + 0.5 - centre[:, None], method, scale, antialias)
        weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
        if channels:
            wide = np.zeros((high - low, channels, stop - start, channels), np.float32)
            for c in range(channels):
                wide[:, c, :, c] = weights.T
            weights = wide.reshape((high - low) * channels, -1)
        step = channels or 1
        bands.append(
            (slice(start * step, stop * step), slice(low * step, high * step), weights),
        )
    return bands


def _resample(image: np.ndarray, height: int, width: int, method: str, antialias: bool):
    """[H, W, C] to float32 [height, width, C]: rows first, then columns."""
    rows, cols, channels = image.shape
    flat = image.reshape(rows, cols * channels)
    tall = np.empty((height, cols * channels), np.float32)
    for out, window, weights in _bands(rows, height, method, antialias, 0):
        pixels = flat[window].astype(np.float32, copy=False)
        step = max(1, _MULTIPLICATIONS // weights.size)
        for i in range(0, cols * channels, step):
            np.matmul(weights, pixels[:, i : i + step], out=tall[out, i : i + step])
    done = np.empty((height, width * channels), np.float32)
    for out, window, weights in _bands(cols, width, method, antialias, channels):
        step = max(1, _MULTIPLICATIONS // weights.size)
        for i in range(0, height, step):
            np.matmul(tall[i : i + step, window], weights, out=done[i : i + step, out])
    return done.reshape(height, width, channels)


def _resample_like(library: str, image: np.ndarray, size: tuple[int, int], method: str):
    """uint8 RGB with Pillow's integer arithmetic, which rounds and clips after each axis."""
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    if image.dtype != np.uint8 or method not in filters:
        raise UserError(
            f"rounding={library!r} resizes uint8 images by 'bilinear' or 'bicubic': "
            f"got {image.dtype} and {method!r}"
        )
    height, width = size
    rows, columns = image.shape[:2]
    # torchvision always resizes the width first. Pillow 13 starts with a height that shrinks by
    # more than twice as much, older ones do not: the order is made here, to be the same in all.
    tall = library == "pillow" and max(0, 2 * (columns - width)) < rows - height
    picture = Image.fromarray(image)
    picture = picture.resize((columns, height) if tall else (width, rows), filters[method])
    return np.array(picture.resize((width, height), filters[method]))


def resize_image(
    image: np.ndarray,
    size: tuple[int, int],
    *,
    method: Method = "bilinear",
    antialias: bool = False,
    rounding: Rounding = "down",
) -> np.ndarray:
    """Resizes [H, W, C] or frames [F, H, W, C] to `size` = (height, width).

    uint8 comes back as uint8, cut down to whole numbers as the reference does
    (`rounding="down"`), or as float32 (`"none"`); a float image comes back as float32.
    `"pillow"` and `"torchvision"` give the uint8 images of the Hugging Face processors with that
    backend; they round and clip after each axis and always antialias.

    Formulas: half-pixel centres; triangle or Keys cubic (a = -½) kernels, widened by the scale
    under antialias (TensorFlow `ScaleAndTranslate`); area = mean over the covered pixels.
    Raises UserError for an unknown method or rounding, or a size below 1.
    """
    if min(size) < 1:
        raise UserError(f"resize size is {size}, expected at least 1 pixel each way")
    if image.ndim == 4:
        options = {"method": method, "antialias": antialias, "rounding": rounding}
        return np.stack([resize_image(frame, size, **options) for frame in image])
    if rounding in ("pillow", "torchvision"):
        return _resample_like(rounding, image, size, method)
    if rounding not in ("down", "none"):
        raise UserError(f"rounding is {rounding!r}, expected one of {get_args(Rounding)}")
    resized = _resample(image, *size, method, antialias)
    if image.dtype != np.uint8 or rounding == "none":
        return resized
    resized += _WHOLE
    return np.clip(resized, 0, 255, out=resized).astype(np.uint8)
