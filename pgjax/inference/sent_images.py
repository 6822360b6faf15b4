"""Images that strangers send to a page or a server."""

from pgjax.data.decode import decode_image
from pgjax.errors import DataError

MOST_BYTES = 20_000_000  # of an image file
MOST_PIXELS = 50_000_000


def check_image(data: bytes) -> bytes:
    """Returns encoded bytes if they are an image that is not too large.

    Raises:
      DataError: they are not; before any pixel is decoded where it is too large.
    """
    if len(data) > MOST_BYTES:
        raise DataError(f"the image file is too large, at most {MOST_BYTES / 1e6:.0f} MB go.")
    decode_image(data, draft=1, max_pixels=MOST_PIXELS)  # at an eighth of its size, where it can
    return data
