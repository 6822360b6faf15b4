"""Text to token ids and back, with the location and segmentation tokens of PaliGemma."""

import os
from collections.abc import Iterable
from importlib import resources

import sentencepiece

from pgjax.errors import UserError

NUM_LOC = 1024
NUM_SEG = 128
SPECIAL = [f"<loc{i:04d}>" for i in range(NUM_LOC)] + [f"<seg{i:03d}>" for i in range(NUM_SEG)]


def _user_defined_piece(piece: str) -> bytes:
    """One more `pieces` entry of a serialized ModelProto: {piece, score 0, USER_DEFINED}.

    Field numbers: sentencepiece_model.proto. Protobuf merges repeated fields of concatenated
    messages, so appending these bytes appends pieces; every length here fits in one byte.
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
    except (RuntimeError, TypeError):
        pass
    found = f"{len(model_bytes)} bytes that start with {model_bytes[:16]!r}"
    raise UserError(f"{name} is not a SentencePiece model: got {found}, expected a tokenizer.model")


class Tokenizer:
    """A SentencePiece model in which each `<loc….>` and `<seg….>` is one id.

    A model without these tokens (Gemma's own) gets them appended, 1024 + 128 ids after its last.
    `model_bytes` is the extended model; pickling carries it whole.
    """

    def __init__(self, model_bytes: bytes, *, name: str = "the tokenizer"):
        """Raises UserError, naming `name`, if the model is corrupt or lacks the expected ids."""
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
        # "\n" separates prefix and suffix and is tokenized alone: "\n\n" may be another piece.
        self.newline_ids = tuple(self.encode("\n"))

    def _check(self, name: str) -> None:
        got = (self.pad_id, self.eos_id, self.bos_id)
        if got != (0, 1, 2):
            raise UserError(f"{name} has pad, eos, bos = {got}, expected (0, 1, 2)")
        expected = [self._loc0 + i for i in range(NUM_LOC)]
        expected += [self._seg0 + i for i in range(NUM_SEG)]
        for piece, piece_id in zip(SPECIAL, expected, strict=True):
            got = self.encode(piece)
            if got != [piece_id]:
                raise UserError(f"{name} encodes {piece} as {got}, expected the one id {piece_id}")

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "Tokenizer":
        """Reads a `tokenizer.model`; a missing or corrupt file is a UserError."""
        try:
            with open(path, "rb") as file:
                model_bytes = file.read()
        except OSError as error:
            raise UserError(f"cannot read the tokenizer {path}: {error.strerror}") from error
        return cls(model_bytes, name=os.fspath(path))

    @classmethod
    def tiny(cls) -> "Tokenizer":
        """The packaged 512-piece model (tools/train_tokenizer.py): tests, demos, tiny runs."""
        resource = resources.files("pgjax.text") / "tiny_tokenizer.model"
        return cls(resource.read_bytes(), name="tiny_tokenizer.model")

    def __reduce__(self):
        return Tokenizer, (self.model_bytes,)

    def encode(self, text: str, bos: bool = False, eos: bool = False) -> list[int]:
        """Token ids of `text`; bytes outside the vocabulary become byte tokens, never unk."""
        ids = self._processor.encode(text)
        return [self.bos_id] * bos + ids + [self.eos_id] * eos

    def decode(self, ids: Iterable[int], stop_at_eos: bool = True) -> str:
        """Text of `ids`, up to the first eos; pad, bos and eos themselves leave no text.

        Raises UserError for an id outside the vocabulary.
        """
        ids = [int(i) for i in ids]
        if stop_at_eos and self.eos_id in ids:
            ids = ids[: ids.index(self.eos_id)]
        for i in ids:
            self._check_range("token id", i, self.vocab_size)
        return self._processor.decode(ids)

    def piece(self, token_id: int) -> str:
        """The vocabulary entry of an id, e.g. `▁cat` or `<loc0012>`."""
        self._check_range("token id", token_id, self.vocab_size)
        return self._processor.id_to_piece(int(token_id))

    def loc_id(self, index: int) -> int:
        """The id of `<loc{index:04d}>`, 0 ≤ index < 1024."""
        self._check_range("location", index, NUM_LOC)
        return self._loc0 + int(index)

    def seg_id(self, index: int) -> int:
        """The id of `<seg{index:03d}>`, 0 ≤ index < 128."""
        self._check_range("segmentation code", index, NUM_SEG)
        return self._seg0 + int(index)

    @staticmethod
    def _check_range(what: str, value: int, end: int) -> None:
        if not 0 <= value < end:
            raise UserError(f"{what} {value} is outside 0…{end - 1}")
