"""Ops on images.

An image is uint8 or float [H, W, 3], or frames [F, H, W, 3]. Ops that move pixels also move
`boxes`, [N, 4] (y0, x0, y1, x1) as fractions 0…1 of the image, and `masks`, [N, H, W], where the
example has them. All raise KeyError for a missing image and DataError for one they cannot use.
"""

import math
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float64, Shaped

from pgjax.data.arguments import Share, Side, Size, between, problem
from pgjax.data.decode import as_rgb, decode_image
from pgjax.data.example import Example
from pgjax.data.resize import Method, Rounding, resize_image
from pgjax.errors import DataError, UserError
from pgjax.registry import OPS

Percent = Annotated[float, between(0, 100)]
Aspect = Annotated[float, between(0.01, 100)]


def _image(example: Example, key: str) -> Shaped[np.ndarray, "*f h w 3"]:
    image = example[key]
    if isinstance(image, np.ndarray) and image.ndim in (3, 4) and image.shape[-1] == 3:
        return image
    got = f"an array {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise DataError(f"{key!r} is {got}, expected [H, W, 3] or [F, H, W, 3]; decode it first.")


def _pair(size: Size) -> tuple[int, int]:
    if expected := problem(Size, size):
        raise UserError(f"size is {size!r}, expected {expected}.")
    return (size, size) if isinstance(size, int) else size


# ---- decoding and resizing -----------------------------------------------------------------------


@OPS.register("decode")
def decode(
    example: Example,
    key: str = "image",
    *,
    orient: bool = False,
    frames: int | None = None,
    draft: int | None = None,
) -> Example:
    """Decode JPEG, PNG, WebP, GIF, BMP or TIFF bytes to uint8 RGB; decoded images pass through.

    A list of images, encoded or not, becomes a list of arrays for `resize` to stack. Pixels come as
    they are stored, as the released models saw them; `orient` turns them as their EXIF data says,
    while `boxes` and `masks` stay as they are. `frames` takes the first so many frames:
    [F, H, W, 3]; `draft`, the size that the image will be resized to, decodes large JPEGs faster
    and less exactly.
    """

    def one(image: Any) -> np.ndarray:
        if isinstance(image, bytes | bytearray | memoryview):
            return decode_image(bytes(image), orient=orient, frames=frames, draft=draft)
        return as_rgb(image)

    image = example[key]
    if isinstance(image, list | tuple):
        if not image:
            raise DataError(f"{key!r} is an empty list, expected at least one image.")
        return {**example, key: [one(part) for part in image]}
    return {**example, key: one(image)}


@OPS.register("resize")
def resize(
    example: Example,
    size: Size,
    method: Method = "bilinear",
    antialias: bool = False,
    *,
    rounding: Rounding = "down",
    key: str = "image",
) -> Example:
    """Resize to size or (height, width), whatever the aspect ratio; stacks a list of images.

    uint8 stays uint8 (`rounding="none"` gives float32 instead); see `resize_image`.
    """
    pair = _pair(size)

    def one(image: Any) -> np.ndarray:
        return resize_image(
            _image({key: image}, key), pair, method=method, antialias=antialias, rounding=rounding
        )

    image = example[key]
    if isinstance(image, list | tuple):
        return {**example, key: np.stack([one(part) for part in image])}
    return {**example, key: one(image)}


def _resize_by(
    example: Example, ratio: float, method: Method, antialias: bool, key: str
) -> Example:
    height, width = example[key].shape[-3:-1]
    size = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    return resize(example, size, method, antialias, key=key)


@OPS.register("resize_small")
def resize_small(
    example: Example,
    size: Side,
    method: Method = "area",
    antialias: bool = False,
    *,
    key: str = "image",
) -> Example:
    """Resize so that the smaller side is size pixels; keeps the aspect ratio."""
    ratio = size / min(_image(example, key).shape[-3:-1])
    return _resize_by(example, ratio, method, antialias, key)


@OPS.register("resize_long")
def resize_long(
    example: Example,
    size: Side,
    method: Method = "area",
    antialias: bool = True,
    *,
    key: str = "image",
) -> Example:
    """Resize so that the longer side is size pixels; keeps the aspect ratio."""
    ratio = size / max(_image(example, key).shape[-3:-1])
    return _resize_by(example, ratio, method, antialias, key)


@OPS.register("outline")
def outline(
    example: Example,
    color: tuple[int, int, int] = (255, 0, 0),
    *,
    key: str = "image",
    boxes_key: str = "boxes",
) -> Example:
    """Outline boxes on a uint8 image, with lines one pixel wide in an RGB color.

    Edges lie where TensorFlow's draw_bounding_boxes draws them, as the released models saw them.
    """
    image = _image(example, key).copy()
    rows, cols = image.shape[-3:-1]
    for box in _boxes(example, boxes_key):
        y0, x0, y1, x1 = (np.clip(box, 0, 1) * [rows - 1, cols - 1, rows - 1, cols - 1]).astype(int)
        image[..., [y0, y1], x0 : x1 + 1, :] = color
        image[..., y0 : y1 + 1, [x0, x1], :] = color
    return {**example, key: image}


@OPS.register("value_range")
def value_range(
    example: Example,
    vmin: float = -1.0,
    vmax: float = 1.0,
    in_min: float = 0.0,
    in_max: float = 255.0,
    clip_values: bool = False,
    *,
    key: str = "image",
) -> Example:
    """Map in_min…in_max to vmin…vmax, as float32; clip_values clips values outside."""
    if vmin >= vmax or in_min >= in_max:
        raise UserError(
            f"value_range maps {in_min:g}…{in_max:g} to {vmin:g}…{vmax:g}, expected smaller bounds "
            "first."
        )
    image = _image(example, key).astype(np.float32)
    image -= np.float32(in_min)
    image *= np.float32((vmax - vmin) / (in_max - in_min))
    image += np.float32(vmin)
    if clip_values:
        np.clip(image, vmin, vmax, out=image)
    return {**example, key: image}


# ---- geometry ------------------------------------------------------------------------------------


def _boxes(example: Example, key: str) -> Float64[np.ndarray, "n 4"]:
    boxes = np.asarray(example[key], np.float64)
    if boxes.size == 0:
        return boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"{key!r} has shape {boxes.shape}, expected [N, 4]: y0, x0, y1, x1 in 0…1.")
    return boxes


def _masks(example: Example, key: str, image: np.ndarray) -> Shaped[np.ndarray, "n h w"]:
    masks = np.asarray(example[key])
    if masks.ndim != 3 or masks.shape[1:] != image.shape[-3:-1]:
        raise DataError(
            f"{key!r} has shape {masks.shape}, expected [N, {image.shape[-3]}, {image.shape[-2]}] "
            "as the image; crop, flip and pad before resizing."
        )
    return masks


def _window(
    example: Example,
    window: tuple[int, int, int, int],
    key: str,
    boxes_key: str,
    masks_key: str,
) -> Example:
    """Cuts out (y, x, height, width) in pixels; clips boxes, which may then have no area."""
    image = _image(example, key)
    y, x, height, width = window
    rows, cols = image.shape[-3:-1]
    area = (slice(y, y + height), slice(x, x + width))
    out = {**example, key: image[(..., *area, slice(None))]}
    if boxes_key in example:
        moved = _boxes(example, boxes_key) * [rows, cols, rows, cols] - [y, x, y, x]
        out[boxes_key] = np.clip(moved / [height, width, height, width], 0, 1)
    if masks_key in example:
        out[masks_key] = _masks(example, masks_key, image)[(slice(None), *area)]
    return out


@OPS.register("crop")
def crop(
    example: Example,
    box: str | tuple[float, float, float, float],
    *,
    key: str = "image",
    boxes_key: str = "boxes",
    masks_key: str = "masks",
) -> Example:
    """Crop to box: (y0, x0, y1, x1) as fractions 0…1, or the key that holds them."""
    height, width = _image(example, key).shape[-3:-1]
    values = np.asarray(example[box] if isinstance(box, str) else box, np.float64)
    if values.shape != (4,):
        raise DataError(f"the crop box is {values.tolist()}, expected y0, x0, y1, x1.")
    y0, x0, y1, x1 = np.clip(values, 0, 1) * [height, width, height, width]
    top, left = math.floor(y0), math.floor(x0)
    window = (top, left, math.ceil(y1) - top, math.ceil(x1) - left)
    if min(window[2:]) < 1:
        raise DataError(f"the crop box {values.tolist()} has no area inside the image.")
    return _window(example, window, key, boxes_key, masks_key)


def _free_space(example: Example, size: Size, key: str) -> tuple[int, int, int, int]:
    """How far a window can move down and right, and its height and width, in pixels."""
    height, width = _pair(size)
    rows, cols = _image(example, key).shape[-3:-1]
    if rows < height or cols < width:
        raise DataError(
            f"cannot crop {height}x{width} from {rows}x{cols} pixels; resize the image first."
        )
    return rows - height, cols - width, height, width


@OPS.register("center_crop")
def center_crop(
    example: Example,
    size: Size,
    *,
    key: str = "image",
    boxes_key: str = "boxes",
    masks_key: str = "masks",
) -> Example:
    """Crop the middle size or (height, width) pixels."""
    y, x, height, width = _free_space(example, size, key)
    return _window(example, (y // 2, x // 2, height, width), key, boxes_key, masks_key)


@OPS.register("random_crop")
def random_crop(
    example: Example,
    size: Size,
    *,
    key: str = "image",
    boxes_key: str = "boxes",
    masks_key: str = "masks",
    rng: np.random.Generator,
) -> Example:
    """Crop size or (height, width) pixels at a random place."""
    y, x, height, width = _free_space(example, size, key)
    window = (int(rng.integers(y + 1)), int(rng.integers(x + 1)), height, width)
    return _window(example, window, key, boxes_key, masks_key)


@OPS.register("inception_crop")
def inception_crop(
    example: Example,
    area_min: Percent = 5,
    area_max: Percent = 100,
    *,
    aspect_min: Aspect = 0.75,
    aspect_max: Aspect = 1.33,
    key: str = "image",
    boxes_key: str = "boxes",
    masks_key: str = "masks",
    rng: np.random.Generator,
) -> Example:
    """Crop a random part with area_min…area_max percent of the image and a random aspect ratio.

    After Szegedy et al. (arXiv:1409.4842), §6. If none of ten draws fits, the image stays whole.
    """
    if area_min > area_max or aspect_min > aspect_max:
        raise UserError(
            f"the area is {area_min}…{area_max} percent and the aspect ratio {aspect_min}…"
            f"{aspect_max}, expected the smaller bounds first."
        )
    rows, cols = _image(example, key).shape[-3:-1]
    height, width = rows, cols
    for _ in range(10):
        area = rng.uniform(area_min, area_max) / 100 * rows * cols
        aspect = rng.uniform(aspect_min, aspect_max)
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= rows and 0 < w <= cols:
            height, width = h, w
            break
    y, x = rng.integers(rows - height + 1), rng.integers(cols - width + 1)
    return _window(example, (int(y), int(x), height, width), key, boxes_key, masks_key)


@OPS.register("flip_lr")
def flip_lr(
    example: Example,
    prob: Share = 0.5,
    *,
    key: str = "image",
    boxes_key: str = "boxes",
    masks_key: str = "masks",
    rng: np.random.Generator,
) -> Example:
    """Mirror left and right with probability prob; text such as "left" is not changed."""
    image = _image(example, key)
    if rng.random() >= prob:
        return example
    out = {**example, key: np.ascontiguousarray(image[..., ::-1, :])}
    if boxes_key in example:
        boxes = _boxes(example, boxes_key)
        out[boxes_key] = np.stack([boxes[:, 0], 1 - boxes[:, 3], boxes[:, 2], 1 - boxes[:, 1]], 1)
    if masks_key in example:
        out[masks_key] = _masks(example, masks_key, image)[..., ::-1]
    return out


@OPS.register("pad_to_square")
def pad_to_square(
    example: Example,
    fill: float = 0,
    *,
    key: str = "image",
    boxes_key: str = "boxes",
    masks_key: str = "masks",
) -> Example:
    """Pad the shorter side with fill, evenly on both sides, until the image is square."""
    image = _image(example, key)
    rows, cols = image.shape[-3:-1]
    side = max(rows, cols)
    y, x = (side - rows) // 2, (side - cols) // 2
    pad = [(y, side - rows - y), (x, side - cols - x)]
    still = [(0, 0)] * (image.ndim - 3)
    out = {**example, key: np.pad(image, [*still, *pad, (0, 0)], constant_values=fill)}
    if boxes_key in example:
        pixels = _boxes(example, boxes_key) * [rows, cols, rows, cols]
        out[boxes_key] = (pixels + [y, x, y, x]) / side
    if masks_key in example:
        out[masks_key] = np.pad(_masks(example, masks_key, image), [(0, 0), *pad])
    return out
