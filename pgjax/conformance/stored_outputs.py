"""What big_vision gave for the tiny models, as `tools/make_conformance_data.py` has stored it."""

import functools
import hashlib
import json
from collections.abc import Mapping
from importlib import resources

import numpy as np
from jaxtyping import Bool

from pgjax.conformance.adapter import Example
from pgjax.errors import UserError

BEAMS = 3
# The most tokens of an answer, by the number of beams; those of a beam search have room to end.
NEW_TOKENS = {1: 8, BEAMS: 24}


class StoredOutputs:
    """Inputs of the checks of one family, and the outputs that are expected.

    Attributes:
      shared: what does not depend on the model: pictures, resized ones, codes and masks.
      own: the outputs of the family's model.
      texts: prefixes and suffixes with their tokens.
      made_with: the versions of the programs that computed the outputs.
      examples: for training; the first two have stored logits and losses.
    """

    def __init__(self, family: str) -> None:
        """Reads the files of the package."""
        self.shared, self.own = _arrays("shared"), _arrays(family)
        found = json.loads((_folder() / "tokens.json").read_text())
        self.texts, self.made_with = found["texts"], found["made_with"]
        self.examples = [
            Example(
                self.shared[f"example/{i}"].astype(np.float32) / np.float32(127.5) - np.float32(1),
                text["prompt"],
                text["answer"],
            )
            for i, text in enumerate(found["examples"])
        ]

    def check_model(self, flat: Mapping[str, np.ndarray]) -> None:
        """Checks that the outputs are those of a model with the given parameters.

        Raises:
          UserError: they are of another one.
        """
        if digest(flat) != str(self.own["digest"]):
            raise UserError(
                "The tiny model's parameters are not those whose outputs are stored; make the "
                "outputs anew with tools/make_conformance_data.py."
            )

    def variants(self, name: str) -> dict[str, np.ndarray]:
        """What `name` is with a known fault, by the fault's name."""
        start = f"{name}/"
        return {k[len(start) :]: x for k, x in self.own.items() if k.startswith(start)}


def digest(flat: Mapping[str, np.ndarray]) -> str:
    """A hash of parameters and their names."""
    result = hashlib.sha256()
    for name in sorted(flat):
        result.update(name.encode() + flat[name].tobytes())
    return result.hexdigest()


def prefix_mask(image: int, prompt: int, answer: int, length: int) -> Bool[np.ndarray, "n n"]:
    """Returns which token attends to which, by the definition of the paper (arXiv:2407.07726).

    Image and prompt are attended to by all, and the answer by what follows; padding by none.

    Args:
      image: the number of image tokens.
      prompt: the number of tokens of the prompt.
      answer: the number of tokens of the answer.
      length: the number of columns of the text, the last of which are padding.
    """
    column = np.arange(image + length)
    seen = (column < image + prompt)[None, :] | (column[None, :] <= column[:, None])
    return seen & (column < image + prompt + answer)[None, :]


def _folder():
    return resources.files("pgjax.conformance") / "data"


@functools.cache
def _arrays(name: str) -> dict[str, np.ndarray]:
    with (_folder() / f"{name}.npz").open("rb") as file, np.load(file) as arrays:
        return dict(arrays)
