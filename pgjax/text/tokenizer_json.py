"""Rebuilds the SentencePiece model of a `tokenizer.json`, as transformers writes it for Gemma.

transformers 5 saves no `tokenizer.model`. Its `tokenizer.json` holds the same byte-pair encoding:
the pieces by id, the merges in their order, and the pieces that are never split. SentencePiece
prefers the merge whose result has the highest score, so a piece whose first merge is the n-th gets
the score -n. The rebuilt model needs no other library, is written to run directories and exports as
every tokenizer is, and encodes as the model that the released checkpoints were trained with.

The field numbers are those of sentencepiece_model.proto.
"""

import json
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from pgjax.errors import UserError

IMAGE = "<image>"  # the processor's placeholder, which is outside of the model's vocabulary
_SPACE = "▁"
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
_KINDS = {"<pad>": _CONTROL, "<eos>": _CONTROL, "<bos>": _CONTROL, "<unk>": _UNKNOWN}
_TAB = "<0x09>"  # transformers 4 writes this byte's piece as the tab itself
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")


def sentencepiece_model(data: bytes, name: str) -> bytes:
    """Rebuilds a serialized SentencePiece model.

    Args:
      data: the contents of a `tokenizer.json`.
      name: what messages call it.

    Raises:
      UserError: it is not a tokenizer of Gemma's kind, or holds tokens after `<image>`, which
        pgjax does not support.
    """
    try:
        found = json.loads(data)
        model, added = found["model"], {x["content"]: x["id"] for x in found["added_tokens"]}
        vocabulary = {**model["vocab"], **added}
        if _TAB not in vocabulary and "\t" in vocabulary:
            vocabulary[_TAB] = vocabulary.pop("\t")
        pieces = _in_order(vocabulary, name)
        merges = _merged_pieces(model["merges"])
        _check_kind(found)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as e:
        reason = f"{type(e).__name__}: {' '.join(str(e).split())}"
        raise UserError(
            f"{name} is not a tokenizer.json of transformers ({reason[:200]})."
        ) from None
    never_split = added.keys() - _KINDS.keys()
    body = b"".join(
        _message(1, _piece(text, -float(merges.get(text, len(merges))), _kind(text, never_split)))
        for text in pieces
    )
    return body + _message(2, _trainer(len(pieces))) + _message(3, _normalizer())


def added_tokens(data: Mapping[str, Any]) -> dict[str, int]:
    """Returns the ids of tokens that were added after `<image>`, by token.

    Args:
      data: all ids of a tokenizer, by token.
    """
    image = data.get(IMAGE)
    return {} if image is None else {token: i for token, i in data.items() if i > image}


def refuse_added(tokens: Mapping[str, int], name: object) -> None:
    """Raises an error if there are tokens after `<image>`.

    Raises:
      UserError: there are; the message names them.
    """
    if tokens:
        first = ", ".join(sorted(tokens, key=lambda t: tokens[t])[:3])
        raise UserError(
            f"{name} has {len(tokens)} tokens after {IMAGE} ({first}), which were added to the "
            "vocabulary of PaliGemma; pgjax does not support them, and leaving them out would "
            "change the model."
        )


def _in_order(vocabulary: Mapping[str, int], name: str) -> list[str]:
    """Returns the pieces by id, up to `<image>`."""
    refuse_added(added_tokens(vocabulary), name)
    pieces = sorted((i, text) for text, i in vocabulary.items() if text != IMAGE)
    for expected, (i, text) in enumerate(pieces):
        if i != expected:
            raise ValueError(f"{text!r} has the id {i}, expected {expected}")
    return [text for _, text in pieces]


def _merged_pieces(merges: Sequence[Any]) -> dict[str, int]:
    """Returns the place of the first merge of each piece, by piece."""
    places: dict[str, int] = {}
    for merge in merges:
        # transformers before 4.45 writes "left right" in one string; a piece may hold a newline,
        # but never a space, which is written as ▁.
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        places.setdefault(left + right, len(places))
    return places


def _check_kind(found: Mapping[str, Any]) -> None:
    """Checks what the rebuilt model does not say otherwise."""
    model, normalizer = found["model"], found["normalizer"]
    expected = {"type": "BPE", "byte_fallback": True, "unk_token": "<unk>"}
    for key, value in expected.items():
        if model[key] != value:
            raise ValueError(f"model.{key} is {model[key]!r}, expected {value!r}")
    replaced = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    if normalizer != replaced:
        raise ValueError(f"normalizer is {normalizer!r}, expected {replaced!r}")


def _kind(text: str, never_split: set[str]) -> int:
    if text in _KINDS:
        return _KINDS[text]
    if text in never_split:
        return _USER_DEFINED
    return _BYTE if _BYTE_PIECE.fullmatch(text) else _NORMAL


def _varint(value: int) -> bytes:
    result = bytearray()
    while value > 127:
        result.append(value & 127 | 128)
        value >>= 7
    return bytes([*result, value])


def _message(field: int, body: bytes) -> bytes:
    """Serializes a field whose wire type is that of strings and messages, 2."""
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _piece(text: str, score: float, kind: int) -> bytes:
    score = 0.0 if kind != _NORMAL else score
    return _message(1, text.encode()) + b"\x15" + struct.pack("<f", score) + _number(3, kind)


def _trainer(size: int) -> bytes:
    """A TrainerSpec: byte-pair encoding with bytes for unknown text, and the special ids."""
    ids = {40: 3, 41: 2, 42: 1, 43: 0}  # unk, bos, eos, pad
    pieces = {45: "<unk>", 46: "<bos>", 47: "<eos>", 48: "<pad>"}
    return b"".join(
        [
            _number(3, 2),  # model_type
            _number(4, size),  # vocab_size
            _number(35, 1),  # byte_fallback
            *(_number(field, i) for field, i in ids.items()),
            *(_message(field, text.encode()) for field, text in pieces.items()),
        ]
    )


def _normalizer() -> bytes:
    """A NormalizerSpec that only writes spaces as ▁, and adds none in front."""
    return _message(1, b"identity") + _number(3, 0) + _number(4, 0) + _number(5, 1)
