"""The text that a model generated for one prompt."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from pgjax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """Generated text with its tokens and their log-probabilities.

    Attributes:
      text: the text, without the text of `stop` that ended it.
      tokens: int32 [T], up to and including the token that ended the text.
      logprobs: float32 [T], of the tokens.
      ended: whether the model ended the text, by eos or a text of `stop`; False where
        `max_new_tokens` cut it off.
    """

    text: str
    tokens: np.ndarray
    logprobs: np.ndarray
    ended: bool = True

    @property
    def truncated(self) -> bool:
        """Whether `max_new_tokens` cut the text off."""
        return not self.ended

    @property
    def logprob(self) -> float:
        """Log-probability of the whole text: the sum over its tokens, at temperature 1."""
        return float(self.logprobs.sum(dtype=np.float64))

    def __repr__(self) -> str:
        end = "" if self.ended else ", cut off"
        return f"Answer({self.text!r}, {len(self.tokens)} tokens{end}, logprob={self.logprob:.3f})"


def read_answer(
    tokenizer: Tokenizer, tokens: np.ndarray, logprobs: np.ndarray, stop: Sequence[str] = ()
) -> Answer:
    """Decodes one row of `pgjax.decoding.generate.Generated`.

    Args:
      tokenizer: the model's tokenizer.
      tokens: int32 [T], zeros after the end.
      logprobs: float32 [T].
      stop: texts before the first of which the answer ends, wherever its tokens begin and end.
    """
    count = len(np.trim_zeros(tokens, "b"))
    ids = tokens[:count].tolist()
    text, ended = tokenizer.decode(ids), tokenizer.eos_id in ids
    if (end := _first(text, stop)) is not None:
        text, ended = text[:end], True
        # The shortest answer that has a stop text; more tokens never take one away.
        low = 1
        while low < count:
            middle = (low + count) // 2
            if _first(tokenizer.decode(ids[:middle]), stop) is None:
                low = middle + 1
            else:
                count = middle
    return Answer(text, tokens[:count], logprobs[:count], ended)


def held_back(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end of a text may be the beginning of a stop text."""
    lengths = (n for one in stop for n in range(1, len(one)) if text.endswith(one[:n]))
    return max(lengths, default=0)


def next_piece(answer: Answer, stop: Sequence[str], told: str) -> str:
    """The text that can be told of an answer that goes on, beyond what was told.

    What may be the beginning of a text of `stop` waits, and half of a character as well.
    """
    text = answer.text[: len(answer.text) - held_back(answer.text, stop)]
    return text[len(told) :] if text.startswith(told) and not text.endswith("\ufffd") else ""


def _first(text: str, stop: Sequence[str]) -> int | None:
    places = [text.find(one) for one in stop]
    return min((place for place in places if place >= 0), default=None)
