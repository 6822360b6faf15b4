"""The text that a model generated for one prompt."""

import dataclasses

import numpy as np

from pgjax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """Generated text with its tokens and their log-probabilities.

    `tokens` int32 [T] and `logprobs` float32 [T] include the eos token where the text ended with
    one; it does not if `max_new_tokens` cut it off.
    """

    text: str
    tokens: np.ndarray
    logprobs: np.ndarray

    @property
    def logprob(self) -> float:
        """Log-probability of the whole text: the sum over its tokens, at temperature 1."""
        return float(self.logprobs.sum(dtype=np.float64))

    def __repr__(self) -> str:
        return f"Answer({self.text!r}, {len(self.tokens)} tokens, logprob={self.logprob:.3f})"


def read_answer(tokenizer: Tokenizer, tokens: np.ndarray, logprobs: np.ndarray) -> Answer:
    """Decodes one row of `pgjax.decoding.generate.Generated`.

    Args:
      tokenizer: the model's tokenizer.
      tokens: int32 [T], zeros after the end.
      logprobs: float32 [T].
    """
    count = len(np.trim_zeros(tokens, "b"))
    tokens = tokens[:count]
    return Answer(tokenizer.decode(tokens.tolist()), tokens, logprobs[:count])
