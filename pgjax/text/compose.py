"""Prefix and suffix to the text arrays of the model: the one place where they are built.

    tokens     bos  p  p  \n  s  s  eos  pad pad
    mask_ar     0   0  0  0   1  1   1    1   1      0: sees the whole block · 1: causal
    mask_loss   0   0  0  0   1  1   1    0   0      1: supervised
    mask_input  1   1  1  1   (answering: the tokens given, padding excluded)

The layout is that of big_vision's `combine_and_keep_train` and `combine_and_keep_eval`.
"""

from typing import Literal, NamedTuple

import numpy as np

from pgjax.errors import DataError, UserError
from pgjax.text.tokenizer import Tokenizer

OnTruncate = Literal["error", "drop", "truncate"]


class DropExample(DataError):
    """An example that `on_truncate="drop"` leaves out."""

    drop = True  # a loader passes over it even where bad examples are errors


class Sequence(NamedTuple):
    """Token ids of one example before padding: prefix with bos and newline, then suffix."""

    prefix: list[int]
    suffix: list[int]

    def __len__(self) -> int:
        return len(self.prefix) + len(self.suffix)


def sequence(tokenizer: Tokenizer, prefix: str, suffix: str | None, *, eos: bool) -> Sequence:
    """Tokenizes one prefix, the separator, and one suffix; DataError if either is not text."""
    for name, text in (("prefix", prefix), ("suffix", suffix)):
        if not isinstance(text, str) and not (name == "suffix" and text is None):
            raise DataError(f"the {name} is a {type(text).__name__}, expected one string")
    head = tokenizer.encode(prefix, bos=True) + list(tokenizer.newline_ids)
    return Sequence(head, [] if suffix is None else tokenizer.encode(suffix, eos=eos))


def check_fits(tokens: Sequence, length: int, on_truncate: OnTruncate) -> bool:
    """Whether `tokens` must be cut to fit `length`; where that is not wanted it raises.

    Raises DataError ("error"), DropExample ("drop"), or UserError for any other `on_truncate`.
    """
    if on_truncate not in ("error", "drop", "truncate"):
        raise UserError(f"on_truncate is {on_truncate!r}, expected 'error', 'drop' or 'truncate'")
    if len(tokens) <= length:
        return False
    if on_truncate == "truncate":
        return True
    raise (DropExample if on_truncate == "drop" else DataError)(
        f"the text has {len(tokens)} tokens ({len(tokens.prefix)} of prefix with bos and newline, "
        f"{len(tokens.suffix)} of suffix) but only {length} fit: raise text_len, "
        "or set on_truncate to 'drop' or 'truncate'"
    )


def _pad(values: list[int], length: int, fill: int) -> np.ndarray:
    return np.array((values + [fill] * length)[:length], np.int32)


def pack_training(tokens: Sequence, text_len: int, allow_unsupervised: bool = False) -> dict:
    """The arrays of `training_arrays` from tokens, cut to text_len + 1."""
    length = text_len + 1
    before, after = [0] * len(tokens.prefix), [1] * len(tokens.suffix)
    mask_loss = _pad(before + after, length, 0)
    if not mask_loss.any() and not allow_unsupervised:
        raise DataError(
            f"nothing is left to learn: the {len(tokens.prefix)} prefix tokens fill all {length} "
            "positions, so text_len must be larger"
        )
    return {
        "text": _pad(tokens.prefix + tokens.suffix, length, 0),
        "mask_ar": _pad(before, length, 1),
        "mask_loss": mask_loss,
    }


def pack_answering(tokens: Sequence, text_len: int) -> dict:
    """The arrays of `answering_arrays` from tokens, cut to text_len."""
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
) -> dict[str, np.ndarray]:
    """`text`, `mask_ar`, `mask_loss`, each int32 [text_len + 1]; the suffix ends with eos.

    One longer than the model sees, because the loss drops the last input and the first target.
    Raises DataError if the text does not fit (DropExample for on_truncate="drop"; "truncate" cuts
    it, which loses eos), and, unless `allow_unsupervised`, if no supervised token is left.
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
) -> dict[str, np.ndarray]:
    """`text` int32, `mask_ar` int32 and `mask_input` bool, each [text_len], to be continued.

    A `suffix` is the beginning of the answer: causal, and without eos. Raises as
    `training_arrays` does if the text does not fit.
    """
    tokens = sequence(tokenizer, prefix, suffix, eos=False)
    check_fits(tokens, text_len, on_truncate)
    return pack_answering(tokens, text_len)
