"""Decodes images to uint8 RGB arrays as `tf.io.decode_image(channels=3)` does: alpha is dropped."""

import io
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from pgjax.errors import DataError, UserError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc")  # from the fifth byte on
MAX_PIXELS = 178_000_000  # over all frames; their RGB array takes 0.5 GB


def _rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise DataError(
            f"the image has pixels of 32 bits (mode {image.mode}), whose range is not known; save "
            "it with 8 bits."
        )
    if image.mode.startswith("I"):  # 16-bit grayscale: keep the high byte, as TensorFlow does
        gray = (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=-1)
    if "transparency" in image.info:  # of a palette or one colour, which is dropped as well
        image = image.convert("RGBA")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _frame(image: Image.Image, orient: bool) -> UInt8[np.ndarray, "h w 3"]:
    return _rgb(ImageOps.exif_transpose(image) if orient else image)


def _heif() -> bool:
    """Registers the reader of HEIC, and returns whether there is one."""
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def decode_image(
    data: bytes,
    *,
    orient: bool = False,
    frames: int | None = None,
    draft: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> UInt8[np.ndarray, "*f h w 3"]:
    """Decodes JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, or HEIC with the extra `heif`.

    Palette, gray and CMYK images become RGB, alpha is dropped, and of 16 bits the upper 8 are kept.
    JPEG uses the accurate integer transform.

    Args:
      data: the file's bytes.
      orient: whether the EXIF orientation is applied.
      frames: how many frames of an animation to decode, from the first; all of them if there are
        fewer. None decodes one image.
      draft: lets a JPEG decode at a half, a quarter or an eighth of its size, as long as both sides
        keep so many pixels, which is up to twice as fast. After an antialiased resize to `draft`
        pixels, the result differs by less than a grey level on average, and by more at edges.
      max_pixels: the largest size, over all frames.

    Returns:
      uint8 [H, W, 3], with `frames` [F, H, W, 3].

    Raises:
      UserError: `frames` or `draft` is not positive.
      DataError: empty, unknown, damaged or truncated data or, before any pixel is decoded, too
        large an image.
    """
    for name, value in (("frames", frames), ("draft", draft)):
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}, expected at least 1.")
    if not data:
        raise DataError("the image is empty: got 0 bytes.")
    formats = [*FORMATS, *(["HEIF"] if data[4:12] in _HEIC and _heif() else [])]
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            width, height = image.size
            count = 1 if frames is None else min(frames, getattr(image, "n_frames", 1))
            if width * height * count > max_pixels:
                got = f"{width}x{height}" + (f", {count} frames" if count > 1 else "")
                raise DataError(
                    f"the image is too large: got {got}, expected at most {max_pixels:,} pixels."
                )
            if draft is not None:
                image.draft(None, (draft, draft))  # other formats ignore it
            if frames is None:
                return _frame(image, orient)
            shown = []
            for i in range(count):
                image.seek(i)
                shown.append(_frame(image, orient))
            return np.stack(shown)
    except UserError:
        raise
    except Image.UnidentifiedImageError as error:
        if data[4:12] in _HEIC:
            raise DataError(
                "the image is HEIC, which needs pip install 'paligemma-jax[heif]'; "
                "or save it as JPEG."
            ) from error
        start = bytes(data[:12])
        raise DataError(
            f"not an image of a known format: got {len(data)} bytes that start with {start!r}, "
            f"expected one of {', '.join(FORMATS)}."
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"the image is too large: {error}.") from error
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads to
        raise DataError(f"the image is damaged or cut short: {error}.") from error


def as_rgb(image: Any) -> UInt8[np.ndarray, "*f h w 3"]:
    """Converts a decoded image to uint8 RGB.

    Args:
      image: of Pillow, or an array, uint8 [H, W], [H, W, 1], [H, W, 3], [H, W, 4] or [F, H, W, 3].

    Returns:
      uint8 [H, W, 3], or the frames [F, H, W, 3] as they were.

    Raises:
      DataError: anything else.
    """
    if isinstance(image, Image.Image):
        return _rgb(image)
    if not isinstance(image, np.ndarray):
        raise DataError(f"the image is a {type(image).__name__}, expected bytes or an array.")
    if image.dtype != np.uint8:
        raise DataError(f"the image array is {image.dtype}, expected uint8 in 0…255.")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim == 3 and image.shape[-1] in (1, 3, 4) and image.size:
        return np.repeat(image, 3, -1) if image.shape[-1] == 1 else image[..., :3]
    if image.ndim == 4 and image.shape[-1] == 3 and image.size:
        return image
    raise DataError(f"the image array has shape {image.shape}, expected [H, W, 3] or [F, H, W, 3].")
