"""Images and prompts to model inputs, as the run or the checkpoint was trained on them."""

from typing import Any

import numpy as np

from pgjax.errors import UserError
from pgjax.loading.model_context import ModelContext


class PromptPreprocessor:
    """Prepares images and prompts as in training; its own prompt where an example has none."""

    def __init__(self, context: ModelContext, keep_picture: bool = False) -> None:
        """Parses the pipelines of `config.answering`.

        Args:
          context: whose config names the pipelines.
          keep_picture: whether the decoded image comes along as `picture`, uint8 [H,W,3].

        Raises:
          UserError: `config.answering` is empty, or a pipeline cannot be parsed.
        """
        spec = context.config.answering
        if not spec.image or not spec.text:
            raise UserError("The run's config.answering is empty, so prompts cannot be prepared.")
        self.image, self.prompt, self.text = map(
            context.pipeline, (spec.image, spec.prompt, spec.text)
        )
        self.keep_picture = keep_picture

    def __call__(self, example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Makes an example with the model's inputs out of one with `image` and maybe `prefix`."""
        for step in self.image.steps:
            example = step(example, rng)
            if self.keep_picture and "picture" not in example:  # the first operation decodes
                example = {**example, "picture": example["image"]}
        if "prefix" not in example:
            example = self.prompt(example, rng=rng)
        return self.text(example, rng=rng)
