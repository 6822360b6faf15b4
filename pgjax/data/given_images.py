"""Images in every form in which users hand them over: files, bytes, URLs, Pillow, arrays, rows."""

import base64
import binascii
import io
import os
import threading
import urllib.request
from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol

import numpy as np
from PIL import Image, ImageOps

from pgjax.data.decode import as_rgb
from pgjax.errors import DataError

EXPECTED = (
    "a path, encoded bytes, an open file, a data URL, a Pillow image, a uint8 array [H, W, 3] or a "
    "row with one of them under 'image'"
)
_SECONDS = 30  # that a server may take to answer
_MOST_BYTES = 200_000_000  # of a download
_ORIENTATION = 0x0112  # the EXIF tag

# Pillow reads a file when pixels are first asked for; threads must not do that at the same time.
_READING = threading.Lock()
_TYPES = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, np.ndarray, Mapping)


class Tensor(Protocol):
    """An array of JAX, PyTorch or another library that follows the DLPack protocol."""

    def __dlpack_device__(self) -> Any:
        """The kind of the device that holds the array, and its number."""
        ...


ImageLike = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | Image.Image
    | np.ndarray
    | Tensor
    | Mapping[str, Any]
)


def is_image_like(value: Any) -> bool:
    """Whether a value has a type that `read_given` takes; its content is not looked at."""
    return (
        isinstance(value, _TYPES) or hasattr(value, "read") or hasattr(value, "__dlpack_device__")
    )


def read_given(
    image: ImageLike, *, allow_urls: bool = False, orient: bool = False
) -> bytes | np.ndarray:
    """Reads an image in any form that users hand over.

    Arrays of PyTorch may have the channels first, [3,H,W] or [F,3,H,W], as torchvision makes them.
    A mapping is a row of a table: the image is its `image`, or its `bytes` or `path`, as the
    library datasets keeps images that it has not decoded.

    Args:
      image: see `ImageLike`.
      allow_urls: whether `http://` and `https://` addresses are downloaded.
      orient: whether a Pillow image is turned as its EXIF orientation says.

    Returns:
      Encoded bytes, or uint8 [H,W,3] or [F,H,W,3].

    Raises:
      DataError: it cannot be read, or it is no image.
    """
    if isinstance(image, str) and image.lower().startswith("data:"):
        return _from_data_url(image)
    if isinstance(image, str) and image.lower().startswith(("http://", "https://")):
        if not allow_urls:
            raise DataError("the image is a URL, which only allow_urls=True downloads.")
        return _download(image)
    if isinstance(image, str | os.PathLike):
        return _from_file(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, Mapping):
        return read_given(_of_row(image), allow_urls=allow_urls, orient=orient)
    if isinstance(image, Image.Image):
        return _from_pillow(image, orient)
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if read := getattr(image, "read", None):
        return _from_stream(image, read)
    if hasattr(image, "__dlpack_device__"):
        return _from_tensor(image)
    raise DataError(f"the image is a {type(image).__name__}, expected {EXPECTED}.")


def orientation(data: bytes) -> int:
    """The EXIF orientation of encoded bytes; 1, which means upright, where there is none."""
    if b"Exif" not in data[:65536] and not data.startswith((b"RIFF", b"\x89PNG")):
        return 1
    try:
        with Image.open(io.BytesIO(data)) as image:
            return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # whatever is wrong with the file is said when it is decoded
        return 1


def _from_file(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(os.path.expanduser(path), "rb") as f:
            return f.read()
    except (OSError, ValueError) as e:
        raise DataError(f"the image cannot be read: {getattr(e, 'strerror', None) or e}.") from None


def _from_data_url(url: str) -> bytes:
    header, comma, data = url.partition(",")
    if not comma or not header.endswith(";base64"):
        raise DataError(f"the image is a URL {header[:60]!r}…, expected data:…;base64,….")
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError) as e:
        raise DataError(f"the data URL of the image is not base64 ({e}).") from None


def _download(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "pgjax"})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:
            data = response.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as e:  # URLError and time-outs are among OSErrors
        reason = getattr(e, "reason", None) or e
        raise DataError(f"the image cannot be downloaded ({reason}).") from None
    if len(data) > _MOST_BYTES:
        raise DataError(f"the image is larger than {_MOST_BYTES / 1e6:.0f} MB, the most allowed.")
    return data


def _of_row(row: Mapping[str, Any]) -> Any:
    for key in ("image", "bytes", "path"):
        if row.get(key) is not None:
            return row[key]
    raise DataError(f"the row has no 'image', it has {sorted(map(str, row))}.")


def _from_stream(stream: Any, read: Any) -> bytes:
    with _READING:
        try:
            if hasattr(stream, "seek"):
                stream.seek(0)  # the same file may be asked about twice
            data = read()
        except (OSError, ValueError) as e:
            raise DataError(f"the open file of the image cannot be read: {e}.") from None
    if not isinstance(data, bytes):
        raise DataError("the image is a file that is open for text, expected open(…, 'rb').")
    return data


def _from_pillow(image: Image.Image, orient: bool) -> np.ndarray:
    # Older versions of Pillow open PNG files of 16 bits in mode I, whose range is then known.
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise DataError(
            f"the Pillow image has mode {image.mode!r}, whose range of values is not known; "
            "expected RGB or L, to which its pixels have to be scaled first."
        )
    with _READING:
        try:
            return as_rgb(ImageOps.exif_transpose(image) if orient else image)
        except (OSError, SyntaxError, ValueError) as e:
            raise DataError(f"the Pillow image cannot be converted to RGB: {e}.") from None


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8:
        how = (
            "(x * 255).round().astype('uint8') converts values in 0…1"
            if array.dtype.kind == "f"
            else "x.astype('uint8') converts values in that range"
        )
        raise DataError(f"the image array is {array.dtype}, expected uint8 in 0…255; {how}.")
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[-1] not in (1, 3, 4):
        raise DataError(
            f"the image array has shape {array.shape}, expected [H, W, 3]; np.moveaxis(x, 0, -1) "
            "puts the channels last."
        )
    return as_rgb(array)


def _from_tensor(tensor: Any) -> np.ndarray:
    of_torch = hasattr(tensor, "detach")
    try:
        array = np.asarray(tensor.detach().cpu() if of_torch else tensor)
    except (TypeError, ValueError, RuntimeError) as e:  # such as bfloat16 of PyTorch
        raise DataError(f"the image tensor cannot become a NumPy array: {e}.") from None
    first = array.shape[-3:-2] in ((1,), (3,)) and array.shape[-1:] not in ((1,), (3,), (4,))
    if of_torch and array.ndim in (3, 4) and first:
        array = np.moveaxis(array, -3, -1)
    return _from_array(array)
