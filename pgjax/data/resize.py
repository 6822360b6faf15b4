"""Resizes images with the arithmetic of `tf.image.resize`, by block-banded matrix products.

Output row i is a weighted sum of input rows near (i + ½) · scale. A few neighbouring output rows
need only a short window of input rows, so each axis is a series of small matrix products, which
give the float32 result in less time than Pillow's integer arithmetic takes.
"""

import functools
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Float32, Shaped, UInt8
from PIL import Image

from pgjax.errors import UserError

Method = Literal["bilinear", "bicubic", "area"]
Rounding = Literal["down", "none", "pillow", "torchvision"]

_Band = tuple[slice, slice, np.ndarray]

_BLOCK = 4  # output rows per product: more rows waste zero weights, fewer need more calls
_MULTIPLICATIONS = 250_000  # per product; up to this, OpenBLAS stays in the calling thread
_WHOLE = 1e-4  # added before rounding down, because exact sums come out a few ulp too low


def _weight(
    x: Float[np.ndarray, "*n"], method: str, scale: float, antialias: bool
) -> Float[np.ndarray, "*n"]:
    """The weight of an input pixel whose centre lies `x` pixels from the output pixel's centre."""
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
    raise UserError(f"resize method is {method!r}, expected 'bilinear', 'bicubic' or 'area'.")


@functools.lru_cache(maxsize=128)
def _bands(n: int, m: int, method: str, antialias: bool, channels: int) -> list[_Band]:
    """The weights from n to m pixels in blocks: (output slice, input slice, float32 matrix).

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


def _resample(
    image: Shaped[np.ndarray, "h w c"], height: int, width: int, method: str, antialias: bool
) -> Float32[np.ndarray, "{height} {width} c"]:
    """Resizes [H, W, C] to float32 [height, width, C], first rows and then columns."""
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


def _resample_like(
    library: str, image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], method: str
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Resizes with Pillow's integer arithmetic, which rounds and clips after each axis."""
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    if image.dtype != np.uint8 or method not in filters:
        raise UserError(
            f"rounding={library!r} resizes uint8 images by 'bilinear' or 'bicubic': "
            f"got {image.dtype} and {method!r}."
        )
    height, width = size
    rows, columns = image.shape[:2]
    # torchvision always resizes the width first. Pillow 13 begins with a height that shrinks by
    # more than twice as much, older versions do not; two calls make the order the same in all.
    tall = library == "pillow" and max(0, 2 * (columns - width)) < rows - height
    picture = Image.fromarray(image)
    picture = picture.resize((columns, height) if tall else (width, rows), filters[method])
    return np.array(picture.resize((width, height), filters[method]))


def resize_image(
    image: Shaped[np.ndarray, "*f h w c"],
    size: tuple[int, int],
    *,
    method: Method = "bilinear",
    antialias: bool = False,
    rounding: Rounding = "down",
) -> Shaped[np.ndarray, "*f _ _ c"]:
    """Resizes an image or frames.

    Formulas: half-pixel centres; triangle or Keys cubic (a = -½) kernels, widened by the scale
    under antialias (TensorFlow's `ScaleAndTranslate`); area is the mean over the covered pixels.

    Args:
      image: uint8 or float [H, W, C], or frames [F, H, W, C].
      size: height and width of the result in pixels.
      method: the kernel.
      antialias: whether the kernel is widened where the image shrinks.
      rounding: how a uint8 image is rounded: `down` as the reference does, `none` for float32, or
        `pillow` or `torchvision` as the Hugging Face processors with that backend do, which round
        and clip after each axis and always antialias.

    Returns:
      [height, width, C] or [F, height, width, C]: uint8 for uint8 unless rounding is `none`, else
      float32.

    Raises:
      UserError: an unknown method or rounding, or a size below 1.
    """
    if min(size) < 1:
        raise UserError(f"resize size is {size}, expected at least 1 pixel each way.")
    if image.ndim == 4:
        one = functools.partial(
            resize_image, size=size, method=method, antialias=antialias, rounding=rounding
        )
        return np.stack([one(frame) for frame in image])
    if rounding in ("pillow", "torchvision"):
        return _resample_like(rounding, image, size, method)
    if rounding not in ("down", "none"):
        raise UserError(f"rounding is {rounding!r}, expected one of {get_args(Rounding)}.")
    resized = _resample(image, *size, method, antialias)
    if image.dtype != np.uint8 or rounding == "none":
        return resized
    resized += _WHOLE
    return np.clip(resized, 0, 255, out=resized).astype(np.uint8)
