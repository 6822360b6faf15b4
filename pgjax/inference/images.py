"""Images with prompts, as a data source; and lists of either in the forms that users have."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from pgjax.data.decode import decode_image
from pgjax.data.given_images import EXPECTED, ImageLike, is_image_like, read_given
from pgjax.errors import DataError, UserError
from pgjax.inference.prompts import clean_prompts

__all__ = ["ImageLike", "PromptedImages", "as_list", "read_image"]


class PromptedImages:
    """A data source of images with their prompts; files are read when they are asked for."""

    def __init__(
        self,
        images: Sequence[ImageLike],
        prompts: Sequence[str | None],
        *,
        allow_urls: bool = False,
        orient: bool = False,
    ) -> None:
        """Checks the types of images and prompts; nothing is read yet.

        Args:
          images: in any form of `ImageLike`; a row of a table may have its prompt under `prefix`.
          prompts: as many texts, or None for the prompt of training; see `clean_prompts`.
          allow_urls: whether images are downloaded from `http://` and `https://` addresses.
          orient: whether Pillow images are turned as their EXIF orientation says.

        Raises:
          UserError: something that is no image, or no text.
        """
        _check_types(images, prompts)
        self.images = images
        self.prompts = clean_prompts(
            [
                image.get("prefix") if prompt is None and isinstance(image, Mapping) else prompt
                for image, prompt in zip(images, prompts, strict=True)
            ]
        )
        self.allow_urls, self.orient = allow_urls, orient

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """An example with `image`, and with `prefix` if there is a prompt.

        Raises:
          DataError: the file cannot be read, or the array is no image.
        """
        prompt = self.prompts[index]
        image = read_given(self.images[index], allow_urls=self.allow_urls, orient=self.orient)
        return {"image": image} if prompt is None else {"image": image, "prefix": prompt}

    def where(self, index: int) -> str:
        """The image's file or address, or its place in the list."""
        return _name(self.images[index]) or f"image {index}"


def as_list(value: Any) -> list[Any] | None:
    """A list of images or of prompts as a `list`; None for a single image or prompt.

    Lists may be columns of tables, datasets, arrays of texts, or generators.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "OUS" and value.ndim == 1:
        return value.tolist()
    if is_image_like(value) or not isinstance(value, Iterable):
        return None
    return list(value)


def read_image(image: ImageLike, *, allow_urls: bool = False) -> np.ndarray:
    """Reads and decodes an image.

    Returns:
      uint8 [H,W,3], or [F,H,W,3] where frames were given.

    Raises:
      DataError: it cannot be read or decoded.
    """
    try:
        found = read_given(image, allow_urls=allow_urls)
        return decode_image(found) if isinstance(found, bytes) else found
    except DataError as e:
        raise DataError(f"{_name(image) or 'image'}: {e}") from None


def _name(image: ImageLike) -> str:
    """The file or address of an image, "" where it has none that is short."""
    if isinstance(image, str | os.PathLike):
        text = str(image)
        return "" if text[:5].lower() == "data:" else text
    return ""


def _check_types(images: Sequence[Any], prompts: Sequence[Any]) -> None:
    several = len(images) > 1
    for i, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        place = f"[{i}]" if several else ""
        if prompt is not None and not isinstance(prompt, str):
            if is_image_like(prompt):
                raise UserError(
                    f"prompts{place} is {_short(prompt)}, expected text; the image comes first: "
                    "generate(image, prompt)."
                )
            raise UserError(f"prompts{place} is {_short(prompt)}, expected text.")
        if not is_image_like(image):
            raise UserError(f"images{place} is {_short(image)}, expected {EXPECTED}.")
        if _swapped(image, prompt):
            raise UserError(
                f"images{place} is {image!r}, which is no file, and prompts{place} is the file "
                f"{prompt!r}; the image comes first: generate(image, prompt)."
            )


def _swapped(image: Any, prompt: str | None) -> bool:
    if not isinstance(image, str) or prompt is None or len(prompt) > 1000 or len(image) > 1000:
        return False
    return "\0" not in image + prompt and os.path.isfile(prompt) and not os.path.exists(image)


def _short(value: Any) -> str:
    if isinstance(value, Image.Image):
        return "a Pillow image"
    if value is None or isinstance(value, str | int | float):
        return repr(value)[:80]
    return f"a {type(value).__name__}"
