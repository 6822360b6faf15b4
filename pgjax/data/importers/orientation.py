"""Images that their EXIF data turns, and annotations made for them as stored or as shown.

pgjax reads pixels as they are stored, in training, evaluation and answering alike, because the
released models were trained in this way; `decode(orient=True)` is for pipelines of one's own. Many
programs show an image turned, and their annotations are for what they showed. `frame_of` decides
which of both annotations are for, and brings them to the pixels as stored.
"""

import io
import pathlib
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from pgjax.data.importers.annotated import AnnotatedObject, Box
from pgjax.errors import DataError

_ORIENTATION = 0x0112  # the EXIF tag
# By orientation: whether rows and columns are swapped, and then, whether they are reversed, on the
# way from the image as shown to the image as stored.
_STEPS = {
    1: (False, False, False), 2: (False, False, True), 3: (False, True, True),
    4: (False, True, False), 5: (True, False, False), 6: (True, True, False),
    7: (True, True, True), 8: (True, False, True),
}  # fmt: skip

Frame = Literal["stored", "shown"]


class Header(NamedTuple):
    """What the head of an image file says: its size as stored, and its EXIF orientation, 1 to 8."""

    height: int
    width: int
    orientation: int

    @property
    def stored(self) -> tuple[int, int]:
        """Height and width of the pixels in the file."""
        return self.height, self.width

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width after turning."""
        return self.stored[::-1] if _STEPS[self.orientation][0] else self.stored


def read_header(image: pathlib.Path | bytes) -> Header:
    """Reads the head of an image file, without its pixels.

    Raises:
      DataError: it is no image that can be read.
    """
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            # Pillow would decode a PNG to the end in search of EXIF data after the pixels.
            has = opened.format != "PNG" or "exif" in opened.info
            turned = opened.getexif().get(_ORIENTATION, 1) if has else 1
            return Header(opened.height, opened.width, turned if turned in _STEPS else 1)
    except Exception as e:  # Pillow's readers raise whatever a damaged file leads to
        raise DataError(f"the image cannot be read ({e}).") from None


def frame_of(header: Header, size: tuple[int, int] | None, frame: Frame | None) -> Frame:
    """Returns whether annotations are for the image as stored or as shown.

    Args:
      header: of the image.
      size: (height, width) that the annotations name; None if they do not.
      frame: what the user says; None to go by the sizes.

    Raises:
      DataError: the annotations are for an image of another shape, or both are possible.
    """
    fits_stored, fits_shown = (
        size is None or _same_shape(size, own) for own in (header.stored, header.shown)
    )
    if size is not None and not (fits_stored or fits_shown):
        raise DataError(
            f"the annotations are for {size[1]}x{size[0]} pixels, but the image has "
            f"{header.width}x{header.height}."
        )
    if header.orientation == 1:
        return "stored"
    if frame or fits_stored != fits_shown:
        return frame or ("stored" if fits_stored else "shown")
    raise DataError(
        f"the image is turned by its EXIF data (orientation {header.orientation}), and its size "
        "does not tell whether the annotations are for it as stored or as shown; say so by "
        "--annotated=stored or --annotated=shown."
    )


def _same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether one size is the other, enlarged or reduced and rounded to whole pixels."""
    if a == b:
        return True
    ratio = a[0] / b[0]
    return abs(a[1] - b[1] * ratio) <= 1 + ratio


def turn_box(box: Box, orientation: int) -> Box:
    """Brings a box, in fractions, from the image as shown to the image as stored."""
    swap, rows, columns = _STEPS[orientation]
    y0, x0, y1, x1 = box
    if swap:
        y0, x0, y1, x1 = x0, y0, x1, y1
    if rows:
        y0, y1 = 1 - y1, 1 - y0
    if columns:
        x0, x1 = 1 - x1, 1 - x0
    return y0, x0, y1, x1


def turn_mask(mask: np.ndarray, orientation: int) -> np.ndarray:
    """Brings a mask [H, W] from the image as shown to the image as stored."""
    swap, rows, columns = _STEPS[orientation]
    mask = mask.T if swap else mask
    return mask[:: -1 if rows else 1, :: -1 if columns else 1]


def turn_object(thing: AnnotatedObject, orientation: int) -> AnnotatedObject:
    """Brings an object from the image as shown to the image as stored."""
    mask = None if thing.mask is None else turn_mask(thing.mask, orientation)
    return AnnotatedObject(thing.label, turn_box(thing.box, orientation), mask)
