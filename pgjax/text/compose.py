"""Builds the model's text arrays from prefix and suffix.

    tokens     bos  p  p  \n  s  s  eos  pad pad
    mask_ar     0   0  0  0   1  1   1    1   1
    mask_loss   0   0  0  0   1  1   1    0   0
    mask_input  1   1  1  1   1  1   1    0   0

`mask_ar` is 0 for tokens that attend to the whole prefix, and 1 for tokens with causal attention.
`mask_loss` is 1 for tokens that are supervised. `mask_input`, which is used for answering, is true
for all tokens but padding. The layout is that of big_vision's `combine_and_keep_train` and
`combine_and_keep_eval`.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Shaped

from pgjax.errors import DataError, UserError
from pgjax.text.tokenizer import Tokenizer

OnTruncate = Literal["error", "drop", "truncate"]
TextArray = Shaped[np.ndarray, "length"]
TextArrays = dict[str, TextArray]


class DropExample(DataError):
    """An example whose text is too long, and which `on_truncate="drop"` leaves out."""

    drop = True  # A loader skips the example even if bad examples are errors.


class TokenSequence(NamedTuple):
    """The token ids of one example, without padding.

    Attributes:
      prefix: the ids of bos, the prefix, and the newline that separates it from the suffix.
      suffix: the ids of the suffix, and of eos when training.
    """

    prefix: list[int]
    suffix: list[int]

    def __len__(self) -> int:
        return len(self.prefix) + len(self.suffix)


def sequence(tokenizer: Tokenizer, prefix: str, suffix: str | None, *, eos: bool) -> TokenSequence:
    """Tokenizes a prefix and a suffix.

    Args:
      tokenizer: the tokenizer.
      prefix: the prompt.
      suffix: the answer, or None for no answer.
      eos: whether eos follows the suffix.

    Raises:
      DataError: prefix or suffix is not a string, or not one of Unicode characters.
    """
    for name, text in (("prefix", prefix), ("suffix", suffix)):
        if not isinstance(text, str) and not (name == "suffix" and text is None):
            raise DataError(f"The {name} is a {type(text).__name__}, expected one string.")
        if isinstance(text, str) and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as e:
                raise DataError(
                    f"The {name} holds half of a surrogate pair, {text[e.start : e.end]!r}, which "
                    "is no character."
                ) from None
    head = tokenizer.encode(prefix, bos=True) + list(tokenizer.newline_ids)
    return TokenSequence(head, [] if suffix is None else tokenizer.encode(suffix, eos=eos))


def check_fits(tokens: TokenSequence, length: int, on_truncate: OnTruncate) -> bool:
    """Returns whether tokens have to be cut to a length.

    Args:
      tokens: the tokens.
      length: the number of tokens that fit.
      on_truncate: what happens to tokens that do not fit: an error, dropping, or cutting.

    Raises:
      DataError: the tokens do not fit, and on_truncate is "error".
      DropExample: the tokens do not fit, and on_truncate is "drop".
      UserError: on_truncate is none of the three values.
    """
    if on_truncate not in ("error", "drop", "truncate"):
        raise UserError(f"on_truncate is {on_truncate!r}, expected 'error', 'drop' or 'truncate'.")
    if len(tokens) <= length:
        return False
    if on_truncate == "truncate":
        return True
    raise (DropExample if on_truncate == "drop" else DataError)(
        f"The text has {len(tokens)} tokens ({len(tokens.prefix)} of prefix with bos and newline, "
        f"{len(tokens.suffix)} of suffix), but only {length} fit; raise text_len, or set "
        "on_truncate to 'drop' or 'truncate'."
    )


def _pad(values: list[int], length: int, fill: int) -> TextArray:
    return np.array((values + [fill] * length)[:length], np.int32)


def pack_training(
    tokens: TokenSequence, text_len: int, allow_unsupervised: bool = False
) -> TextArrays:
    """Makes the arrays of `training_arrays` from tokens, padded or cut to text_len + 1.

    Raises:
      DataError: no supervised token is left, and `allow_unsupervised` is false.
    """
    length = text_len + 1
    before, after = [0] * len(tokens.prefix), [1] * len(tokens.suffix)
    mask_loss = _pad(before + after, length, 0)
    if not mask_loss.any() and not allow_unsupervised:
        raise DataError(
            f"The example has no supervised token, because the {len(tokens.prefix)} tokens of its "
            f"prefix fill all {length} positions; raise text_len."
        )
    return {
        "text": _pad(tokens.prefix + tokens.suffix, length, 0),
        "mask_ar": _pad(before, length, 1),
        "mask_loss": mask_loss,
    }


def pack_answering(tokens: TokenSequence, text_len: int) -> TextArrays:
    """Makes the arrays of `answering_arrays` from tokens, padded or cut to text_len."""
    return {
        "text": _pad(tokens.prefix + tokens.suffix, text_len, 0),
        "mask_ar": _pad([0] * len(tokens.prefix), text_len, 1),
        "mask_input": np.arange(text_len) < len(tokens),
    }


def training_arrays(
    tokenizer: Tokenizer,
    prefix: str,
    suffix: str,
    text_len: int,
    on_truncate: OnTruncate = "error",
    *,
    allow_unsupervised: bool = False,
) -> TextArrays:
    """Makes the text arrays of a training example, whose suffix ends with eos.

    Args:
      tokenizer: the tokenizer.
      prefix: the prompt.
      suffix: the answer to learn.
      text_len: the number of text tokens that the model sees. The arrays are longer by one, because
        the loss drops the last input and the first target.
      on_truncate: what happens to text that does not fit: an error, dropping the example, or
        cutting the text, which loses eos.
      allow_unsupervised: whether an example without any supervised token is accepted.

    Returns:
      `text`, `mask_ar` and `mask_loss`, each int32 [text_len + 1].

    Raises:
      DataError: the text does not fit, or no supervised token is left.
      DropExample: the text does not fit, and on_truncate is "drop".
    """
    tokens = sequence(tokenizer, prefix, suffix, eos=True)
    check_fits(tokens, text_len + 1, on_truncate)
    return pack_training(tokens, text_len, allow_unsupervised)


def answering_arrays(
    tokenizer: Tokenizer,
    prefix: str,
    text_len: int,
    suffix: str | None = None,
    on_truncate: OnTruncate = "error",
) -> TextArrays:
    """Makes the text arrays of a prompt, which the model continues.

    Args:
      tokenizer: the tokenizer.
      prefix: the prompt.
      text_len: the number of text tokens that the model sees.
      suffix: the beginning of the answer, which has causal attention and no eos, or None.
      on_truncate: what happens to text that does not fit: an error, dropping, or cutting.

    Returns:
      `text` int32, `mask_ar` int32 and `mask_input` bool, each [text_len].

    Raises:
      DataError: the text does not fit.
      DropExample: the text does not fit, and on_truncate is "drop".
    """
    tokens = sequence(tokenizer, prefix, suffix, eos=False)
    check_fits(tokens, text_len, on_truncate)
    return pack_answering(tokens, text_len)
