"""The images that users hand over, in files or in memory, each with its prompt."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from pgjax.data.decode import as_rgb, decode_image
from pgjax.errors import UserError

ImageLike = str | os.PathLike[str] | bytes | Image.Image | np.ndarray


class PromptedImages:
    """A data source of images with their prompts; files are read when they are asked for."""

    def __init__(self, images: Sequence[ImageLike], prompts: Sequence[str | None]) -> None:
        """Keeps as many images as prompts; None stands for the prompt of training."""
        self.images, self.prompts = images, prompts

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """An example with `image`, and with `prefix` if there is a prompt.

        Raises:
          UserError: the file cannot be read, or the array is no image.
        """
        prompt = self.prompts[index]
        example = {"image": _bytes_or_rgb(self.images[index])}
        return example if prompt is None else {**example, "prefix": prompt}

    def where(self, index: int) -> str:
        """The image's file, or its place in the list."""
        image = self.images[index]
        return str(image) if isinstance(image, str | os.PathLike) else f"image {index}"


def as_list(value: Any) -> list[Any] | None:
    """A list of images or of prompts as a `list`; None for a single image or prompt."""
    single = not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray)
    return None if single else list(value)


def read_image(image: ImageLike) -> np.ndarray:
    """Reads and decodes an image.

    Returns:
      uint8 [H,W,3], or [F,H,W,3] where frames were given.

    Raises:
      UserError: it cannot be read or decoded.
    """
    found = _bytes_or_rgb(image)
    return decode_image(found) if isinstance(found, bytes) else found


def _bytes_or_rgb(image: ImageLike) -> bytes | np.ndarray:
    if isinstance(image, str | os.PathLike):
        try:
            with open(image, "rb") as f:
                return f.read()
        except OSError as e:
            raise UserError(f"The image {image} cannot be read: {e.strerror}.") from None
    return image if isinstance(image, bytes) else as_rgb(image)
