"""Images and prompts to model inputs, as the run or the checkpoint was trained on them."""

import re
from typing import Any

import numpy as np

from pgjax.data.given_images import orientation
from pgjax.errors import UserError, note
from pgjax.loading.model_context import ModelContext

_DECODE = re.compile(r"^(\s*decode)(?:\(\s*(\)?)|(?=\s*(?:\||$)))")


class PromptPreprocessor:
    """Prepares images and prompts as in training; its own prompt where an example has none.

    Attributes:
      turns: whether images are turned as their EXIF orientation says.
      has_prompt: whether there is a prompt for examples without one.
    """

    def __init__(
        self, context: ModelContext, keep_picture: bool = False, orient: bool | None = None
    ) -> None:
        """Parses the pipelines of `config.answering`.

        Args:
          context: whose config names the pipelines.
          keep_picture: whether the decoded image comes along as `picture`, uint8 [H,W,3].
          orient: whether images are turned as their EXIF orientation says; None for as in
            training, with a note about the first file that has an orientation and is not turned.

        Raises:
          UserError: `config.answering` is empty, or a pipeline cannot be parsed.
        """
        spec = context.config.answering
        if not spec.image or not spec.text:
            raise UserError("The run's config.answering is empty, so prompts cannot be prepared.")
        image = spec.image
        as_trained = "orient=True" in image
        if orient and not as_trained:
            image = _DECODE.sub(_turning, image, count=1)
        elif orient is False:
            image = image.replace("orient=True", "orient=False")
        self.turns = "orient=True" in image
        self.has_prompt = bool(spec.prompt)
        self.image, self.prompt, self.text = map(context.pipeline, (image, spec.prompt, spec.text))
        self.keep_picture = keep_picture
        self._tells = orient is None and not as_trained

    def picture(self, image: bytes) -> np.ndarray:
        """Decodes an image as the model is given it, for boxes to be drawn on.

        Returns:
          uint8 [H,W,3], or [F,H,W,3] of a model that was trained on frames.

        Raises:
          DataError: it cannot be decoded.
        """
        return self.image.steps[0]({"image": image}, None)["image"]

    def __call__(self, example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Makes an example with the model's inputs out of one with `image` and maybe `prefix`."""
        image = example.get("image")
        if self._tells and isinstance(image, bytes) and orientation(image) != 1:
            self._tells = False
            note(
                "an image has an EXIF orientation and is read as it is stored, not turned, as in "
                "training; orient=True (--orient) turns such images."
            )
        for step in self.image.steps:
            example = step(example, rng)
            if self.keep_picture and "picture" not in example:  # the first operation decodes
                example = {**example, "picture": example["image"]}
        if "prefix" not in example:
            example = self.prompt(example, rng=rng)
        return self.text(example, rng=rng)


def _turning(match: re.Match[str]) -> str:
    """`decode`, `decode()` or the beginning of `decode(…`, with `orient=True` among its options."""
    name, closed = match.group(1), match.group(2)
    whole = closed or not match.group(0).rstrip().endswith("(")
    return f"{name}(orient=True{')' if whole else ', '}"
