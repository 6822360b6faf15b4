"""What the suite asks of an implementation: ten methods."""

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from pgjax.conformance.tiny_models import ModelFiles
from pgjax.errors import UserError

ADAPTERS = {
    "pgjax": ("with_pgjax", "PgjaxAdapter"),
    "transformers": ("with_transformers", "TransformersAdapter"),
    "peft": ("with_peft", "PeftAdapter"),
    "keras-hub": ("with_keras_hub", "KerasHubAdapter"),
}
DetectedBox = tuple[str, Sequence[float]]  # its label, and (y0, x0, y1, x1) in pixels


@dataclasses.dataclass(frozen=True)
class Example:
    """An image, a prompt and its answer, as a model sees them.

    Attributes:
      pixels: float32 [H,W,3] in -1..1, in the model's size.
      prompt: the ids of bos, the prefix and the line break.
      answer: the ids of the suffix and eos; none where the model is to answer.
    """

    pixels: Float32[np.ndarray, "h w 3"]
    prompt: list[int]
    answer: list[int]


class Adapter:
    """An implementation of PaliGemma with one tiny model loaded.

    A method that the implementation has nothing for is left out, and reported as "not offered".
    Methods return arrays that numpy can read, or plain Python values.

    Attributes:
      packages: names of the distributions whose versions the report states.
    """

    packages: ClassVar[tuple[str, ...]] = ()

    def __init__(self, files: ModelFiles) -> None:
        """Loads a model, in float32 on a CPU or with float32 products.

        Args:
          files: the model in several forms, of which one is enough.
        """

    def tokens(self, prefix: str, suffix: str) -> tuple[list[int], list[int]]:
        """Tokenizes a prefix and a suffix for training.

        Returns:
          (prompt, answer): the ids that are attended to in full without those of the image, which
          are bos, the prefix and a line break; and the ids that are attended to causally and
          supervised, which are the suffix and eos.
        """
        raise NotImplementedError

    def image(self, picture: UInt8[np.ndarray, "a b 3"]) -> Float[np.ndarray, "h w 3"]:
        """Resizes a picture to the model's size, in -1..1."""
        raise NotImplementedError

    def mask(self, example: Example, length: int) -> Bool[np.ndarray, "n n"]:
        """Returns which token attends to which, as the decoder is given it.

        Args:
          example: for training, or for answering where it has no answer.
          length: how many columns the text has; behind the example's tokens there is padding.

        Returns:
          [N,N] of the image tokens and then the text; [i,j] says whether i attends to j.
        """
        raise NotImplementedError

    def image_tokens(self, pixels: Float32[np.ndarray, "h w 3"]) -> Float[np.ndarray, "p d"]:
        """Encodes an image: what the projector gives to the decoder."""
        raise NotImplementedError

    def logits(self, example: Example) -> Float[np.ndarray, "t v"]:
        """Returns logits at the T text tokens of a training example; rows above V are left out."""
        raise NotImplementedError

    def loss(self, examples: Sequence[Example]) -> float:
        """Returns the loss of a training batch as the implementation's training has it."""
        raise NotImplementedError

    def gradient(self, example: Example, name: str) -> Float[np.ndarray, "..."]:
        """Returns the gradient of the loss of one example by a parameter.

        Args:
          example: for training.
          name: of a parameter in the `.npz`, whose shape and axes the gradient has.
        """
        raise NotImplementedError

    def answers(
        self, examples: Sequence[Example], beams: int, max_new_tokens: int
    ) -> list[list[int]]:
        """Answers prompts of different lengths, in one batch.

        Args:
          examples: without answers.
          beams: 1 for the likeliest token at each step; more for a beam search, which returns the
            ended answer with the largest sum of log-probabilities, its length not taken into
            account, where each open answer may end at each step.
          max_new_tokens: how long an answer may be.

        Returns:
          The new ids of each answer; what follows eos does not matter.
        """
        raise NotImplementedError

    def boxes(self, text: str, height: int, width: int) -> Sequence[DetectedBox]:
        """Reads the boxes in an answer to `detect`, in pixels of an image of the given size."""
        raise NotImplementedError

    def decoded_mask(self, codes: Sequence[int]) -> Float[np.ndarray, "64 64"]:
        """Decodes the 16 codes of a mask, about -1 outside and 1 inside of it."""
        raise NotImplementedError


def optional(name: str) -> Any:
    """Imports a package that only an adapter needs.

    Raises:
      UserError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise UserError(
            f"The adapter needs the package {name}, which cannot be imported ({e})."
        ) from None


def versions(adapter: type[Adapter]) -> str:
    """Names the versions of an adapter's packages and of Python."""
    found = [f"{name} {_version(name)}" for name in adapter.packages]
    return ", ".join([*found, f"Python {sys.version.split()[0]}"])


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(version unknown)"


def find_adapter(name: str) -> type[Adapter]:
    """Returns an adapter's class.

    Args:
      name: a key of `ADAPTERS`, or `path/to/file.py:Class`.

    Raises:
      UserError: there is no such adapter, or its file cannot be imported.
    """
    if name in ADAPTERS:
        module, cls = ADAPTERS[name]
        return getattr(importlib.import_module(f"pgjax.conformance.adapters.{module}"), cls)
    file, _, cls = name.rpartition(":")
    if not file.endswith(".py"):
        raise UserError(
            f"--adapter is {name!r}, expected one of {', '.join(ADAPTERS)}, or "
            "path/to/file.py:Class."
        )
    spec = importlib.util.spec_from_file_location(pathlib.Path(file).stem, file)
    assert spec is not None and spec.loader is not None  # of a name that ends in .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        raise UserError(f"{file} cannot be imported ({type(e).__name__}: {e}).") from e
    found = getattr(module, cls, None)
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise UserError(f"{file} has no class {cls} that is derived from Adapter.")
    return found
