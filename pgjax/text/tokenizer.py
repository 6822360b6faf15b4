"""The tokenizer, which includes the location and segmentation tokens of PaliGemma."""

import os
from collections.abc import Iterable
from importlib import resources

import sentencepiece

from pgjax.errors import UserError
from pgjax.text.tokenizer_json import sentencepiece_model

NUM_LOC = 1024
NUM_SEG = 128
SPECIAL = [f"<loc{i:04d}>" for i in range(NUM_LOC)] + [f"<seg{i:03d}>" for i in range(NUM_SEG)]


def _user_defined_piece(piece: str) -> bytes:
    """Serializes a `pieces` entry {piece, score 0, USER_DEFINED} of a ModelProto.

    The field numbers are those of sentencepiece_model.proto. Protobuf concatenates the repeated
    fields of concatenated messages, so appending these bytes to a model appends the piece. Every
    length fits in one byte.
    """
    text = piece.encode()
    body = b"\x0a" + bytes([len(text)]) + text + b"\x15\x00\x00\x00\x00" + b"\x18\x04"
    return b"\x0a" + bytes([len(body)]) + body


def _load(model_bytes: bytes, name: str) -> sentencepiece.SentencePieceProcessor:
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model_bytes)
        if len(processor):
            return processor
    except (RuntimeError, TypeError, ValueError):  # the last where its message is no text
        pass
    found = f"{len(model_bytes)} bytes that start with {model_bytes[:16]!r}"
    raise UserError(
        f"{name} is not a SentencePiece model: got {found}, expected a tokenizer.model."
    )


class Tokenizer:
    """A SentencePiece model in which each `<loc…>` and `<seg…>` is a single token.

    A model without these tokens, such as Gemma's own, gets all 1024 + 128 of them appended.

    Attributes:
      model_bytes: the serialized model, with these tokens; pickling carries all of it.
      vocab_size: the number of token ids.
      pad_id: the id of padding, 0.
      eos_id: the id of the end of a text, 1.
      bos_id: the id of the beginning of a text, 2.
      unk_id: the id of unknown text, which `encode` never uses.
      newline_ids: the ids of the newline that separates prefix and suffix.
    """

    def __init__(self, model_bytes: bytes, *, name: str = "The tokenizer") -> None:
        """Opens a serialized model.

        Args:
          model_bytes: the contents of a `tokenizer.model`.
          name: what messages call it.

        Raises:
          UserError: the model is corrupt, or lacks the expected ids.
        """
        processor = _load(model_bytes, name)
        if all(processor.piece_to_id(piece) == processor.unk_id() for piece in SPECIAL):
            model_bytes += b"".join(map(_user_defined_piece, SPECIAL))
            processor = _load(model_bytes, name)
        self.model_bytes = model_bytes
        self.vocab_size = len(processor)
        self.pad_id, self.eos_id = processor.pad_id(), processor.eos_id()
        self.bos_id, self.unk_id = processor.bos_id(), processor.unk_id()
        self._processor = processor
        self._loc0 = processor.piece_to_id(SPECIAL[0])
        self._seg0 = processor.piece_to_id(SPECIAL[NUM_LOC])
        self._check(name)
        # The separator is tokenized on its own, because "\n\n" may be another piece.
        self.newline_ids = tuple(self.encode("\n"))

    def _check(self, name: str) -> None:
        special = (self.pad_id, self.eos_id, self.bos_id)
        if special != (0, 1, 2):
            raise UserError(f"{name} has pad, eos, bos = {special}, expected (0, 1, 2).")
        expected = [self._loc0 + i for i in range(NUM_LOC)]
        expected += [self._seg0 + i for i in range(NUM_SEG)]
        for piece, piece_id in zip(SPECIAL, expected, strict=True):
            got = self.encode(piece)
            if got != [piece_id]:
                raise UserError(f"{name} encodes {piece} as {got}, expected the one id {piece_id}.")

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "Tokenizer":
        """Reads a `tokenizer.model`, or a `tokenizer.json` that transformers has written.

        Raises:
          UserError: the file is missing or corrupt, or a `tokenizer.json` is not of Gemma's kind.
        """
        try:
            with open(path, "rb") as file:
                model_bytes = file.read()
        except (OSError, ValueError) as error:  # the latter of a NUL in the path
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"The tokenizer {path} cannot be read ({reason}).") from error
        name = os.fspath(path)
        if name.endswith(".json"):
            model_bytes = sentencepiece_model(model_bytes, name)
        return cls(model_bytes, name=name)

    @classmethod
    def tiny(cls) -> "Tokenizer":
        """Opens the packaged model of 512 pieces, for tests, demos and tiny models."""
        resource = resources.files("pgjax.text") / "tiny_tokenizer.model"
        return cls(resource.read_bytes(), name="tiny_tokenizer.model")

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[bytes]]:
        return Tokenizer, (self.model_bytes,)

    def encode(self, text: str, bos: bool = False, eos: bool = False) -> list[int]:
        """Returns the token ids of a text.

        Text outside of the vocabulary becomes byte tokens, never unk.

        Args:
          text: the text.
          bos: whether to put bos before it.
          eos: whether to put eos after it.
        """
        ids = self._processor.encode(text)
        return [self.bos_id] * bos + ids + [self.eos_id] * eos

    def decode(self, ids: Iterable[int], stop_at_eos: bool = True) -> str:
        """Returns the text of token ids, in which pad, bos and eos are left out.

        Args:
          ids: the token ids.
          stop_at_eos: whether the text ends at the first eos.

        Raises:
          UserError: an id is outside of the vocabulary.
        """
        ids = [int(i) for i in ids]
        if stop_at_eos and self.eos_id in ids:
            ids = ids[: ids.index(self.eos_id)]
        for i in ids:
            self._check_range("token id", i, self.vocab_size)
        return self._processor.decode(ids)

    def piece(self, token_id: int) -> str:
        """Returns the vocabulary entry of an id, such as `▁cat` or `<loc0012>`."""
        self._check_range("token id", token_id, self.vocab_size)
        return self._processor.id_to_piece(int(token_id))

    def text_of(self, token_id: int) -> str | None:
        """Returns what a token adds to a text; None for control tokens and unk.

        One byte of several that make a character is U+FFFD.
        """
        piece, model = self.piece(token_id), self._processor
        if model.is_control(token_id) or model.is_unknown(token_id) or model.is_unused(token_id):
            return None
        if model.is_byte(token_id):
            return bytes([int(piece[1:-1], 16)]).decode(errors="replace")
        return piece.replace("\u2581", " ")

    def loc_id(self, index: int) -> int:
        """Returns the id of the location token of an index in 0..1023."""
        self._check_range("location", index, NUM_LOC)
        return self._loc0 + int(index)

    def seg_id(self, index: int) -> int:
        """Returns the id of the segmentation token of an index in 0..127."""
        self._check_range("segmentation code", index, NUM_SEG)
        return self._seg0 + int(index)

    @staticmethod
    def _check_range(what: str, value: int, end: int) -> None:
        if not 0 <= value < end:
            raise UserError(f"The {what} is {value}, expected a value in 0..{end - 1}.")
