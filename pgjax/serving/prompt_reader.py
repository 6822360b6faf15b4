"""Prompts and images as requests have them, made into a model's inputs."""

import os
import pathlib
import urllib.parse
import urllib.request

import numpy as np

from pgjax.data.given_images import read_given
from pgjax.errors import DataError, UserError
from pgjax.inference.generation import INPUTS
from pgjax.inference.model import Model
from pgjax.inference.preprocessing import PromptPreprocessor
from pgjax.inference.sent_images import MOST_BYTES, check_image
from pgjax.serving.row_programs import Inputs
from pgjax.text.compose import sequence

_MOST_CHARACTERS = 32  # of a token of text; longer prompts are not tokenized at all


class PromptReader:
    """Reads prompts and images for one model.

    Attributes:
      example: the inputs of some prompt, which tell the shapes.
      longest_prompt: in tokens of text, with bos and newline.
    """

    def __init__(self, model: Model, longest_prompt: int, files: pathlib.Path | None) -> None:
        """Prepares some prompt.

        Args:
          model: that answers.
          longest_prompt: in tokens; the checkpoint's own limit counts where it is lower.
          files: the folder of which requests may name files; None for no files.

        Raises:
          UserError: the folder does not exist, or the checkpoint does not answer about one image.
        """
        if files is not None and not files.is_dir():
            raise UserError(f"--files {files} is no folder.")
        self._files = files and files.resolve()
        self._preprocessor = PromptPreprocessor(model.context)
        self._tokenizer = model.context.tokenizer
        self.longest_prompt = longest_prompt
        gray = np.full((8, 8, 3), 128, np.uint8)
        self.example = self._prepared(gray, "caption")
        self.longest_prompt = min(longest_prompt, len(self.example["text"]))

    def inputs(self, prompt: str | None, url: str) -> Inputs:
        """The inputs of one row.

        Args:
          prompt: the text; None for the prompt that the checkpoint was tuned with.
          url: of the image: a data URL, or a file below the folder.

        Raises:
          UserError: the prompt is too long, or the image cannot be read.
        """
        if prompt is None and not self._preprocessor.has_prompt:
            raise UserError(
                "There is no text, and this checkpoint has no prompt of its own; expected one such "
                "as 'caption en'."
            )
        return self._prepared(check_image(self._read(url)), prompt)

    def _prepared(self, image: bytes | np.ndarray, prompt: str | None) -> Inputs:
        example = {"image": image} if prompt is None else {"image": image, "prefix": prompt}
        if prompt and len(prompt) > _MOST_CHARACTERS * self.longest_prompt:
            raise self._too_long(f"{len(prompt):,} characters")
        self._check_fits(len(sequence(self._tokenizer, prompt or "", None, eos=False)))
        made = self._preprocessor(example, np.random.default_rng(0))
        self._check_fits(int(made["mask_input"].sum()))  # a run may put words around a prompt
        inputs = {k: made[k] for k in INPUTS[:4]}
        shape = inputs["image"].shape
        if (known := getattr(self, "example", inputs)["image"].shape) != shape:
            raise DataError(f"the image becomes {shape}, where this model takes {known}.")
        return inputs

    def _check_fits(self, tokens: int) -> None:
        if tokens > self.longest_prompt:
            raise self._too_long(f"{tokens} tokens")

    def _too_long(self, got: str) -> UserError:
        return UserError(
            f"The prompt has {got}, at most {self.longest_prompt} tokens go (--longest_prompt)."
        )

    def _read(self, url: str) -> bytes:
        scheme = url[:8].lower()
        if scheme.startswith("data:"):
            data = read_given(url)
            assert isinstance(data, bytes)
            return data
        if scheme.startswith(("http:", "https:")):
            raise UserError(
                "The image is an http address, which this server does not fetch; expected a data "
                "URL (data:image/png;base64,…)."
            )
        if self._files is None:
            raise UserError(
                "The image is neither a data URL nor one of this server's files, of which it shows "
                "none (--files)."
            )
        if scheme.startswith("file:"):
            url = urllib.request.url2pathname(urllib.parse.urlsplit(url).path)
        return self._read_file(url)

    def _read_file(self, name: str) -> bytes:
        """Reads a file below the folder; what lies elsewhere is not told from what is missing."""
        assert self._files is not None
        try:
            path = (self._files / name).resolve()
            if path.is_relative_to(self._files) and path.is_file():
                with open(path, "rb", opener=_not_waiting) as f:
                    return f.read(MOST_BYTES + 1)
        except (OSError, ValueError, RuntimeError):  # such as a loop of links, or a NUL
            pass
        raise UserError(f"The image {name[:80]!r} is no file below this server's folder of files.")


def _not_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe in its place would be waited for
