"""tokenizer.json as transformers 4.41 to 5.23 have saved it, against the model that it came from.

`tests/checkpoints/make_hf_folders.py` has saved the files from `paligemma_tokenizer.model`.
"""

import gzip
import json
import random

import pytest
from conftest import GOLDEN, TESTS

from pgjax.errors import UserError
from pgjax.text.tokenizer import Tokenizer
from pgjax.text.tokenizer_json import sentencepiece_model

VERSIONS = ["4.41", "4.47", "4.51", "4.57", "5.23"]
ORIGINAL = Tokenizer.from_file(GOLDEN / "paligemma_tokenizer.model")


def saved(version):
    return gzip.decompress(
        (TESTS / "hf_folders" / version / "processor" / "tokenizer.json.gz").read_bytes()
    )


def rebuilt(data):
    return Tokenizer(sentencepiece_model(data, "tokenizer.json"))


def texts(count):
    """Texts of random pieces, with spaces, newlines, and characters outside of the vocabulary."""
    rng = random.Random(0)
    parts = [ORIGINAL.piece(i).replace("▁", " ") for i in range(4, ORIGINAL.vocab_size)]
    parts += list("abcdefgh ijkl\n\t éß漢🙂▁<>0123") * 20
    for _ in range(count):
        yield "".join(rng.choice(parts) for _ in range(rng.randint(1, 12)))


@pytest.mark.parametrize("version", VERSIONS)
def test_pieces_ids_and_encodings_are_those_of_the_original(version):
    got = rebuilt(saved(version))
    assert got.vocab_size == ORIGINAL.vocab_size
    for i in range(got.vocab_size):
        assert got.piece(i) == ORIGINAL.piece(i)
    assert (got.pad_id, got.eos_id, got.bos_id, got.unk_id) == (0, 1, 2, 3)
    assert got.newline_ids == ORIGINAL.newline_ids and got.loc_id(7) == ORIGINAL.loc_id(7)
    for text in texts(2000):
        ids = got.encode(text)
        assert ids == ORIGINAL.encode(text), text
        assert got.decode(ids) == ORIGINAL.decode(ids)


@pytest.mark.parametrize("version", VERSIONS)
def test_encodings_are_those_of_the_tokenizers_library(version):
    tokenizers = pytest.importorskip("tokenizers")
    theirs, ours = tokenizers.Tokenizer.from_str(saved(version).decode()), rebuilt(saved(version))
    for text in texts(1000):
        # transformers 5 merges some runs of spaces in another order than the original model.
        spaces = "   " in text and version.startswith("5")
        special = any(f"<{name}>" in text for name in ("pad", "eos", "bos", "unk", "image"))
        if not spaces and not special:
            assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids, text


def test_a_file_is_read_by_its_name(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(saved("5.23"))
    assert Tokenizer.from_file(tmp_path / "tokenizer.json").encode("a cat") == ORIGINAL.encode(
        "a cat"
    )


def changed(change):
    data = json.loads(saved("5.23"))
    change(data)
    return json.dumps(data).encode()


def add(data, content, i):
    data["added_tokens"].append({**data["added_tokens"][-1], "content": content, "id": i})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a tokenizer.json of transformers"),
        (b"[]", "is not a tokenizer.json"),
        (b"[" * 10**5, "is not a tokenizer.json"),
        (b"\xff\xfe", "is not a tokenizer.json"),
        (b'{"model": null, "added_tokens": []}', "is not a tokenizer.json"),
        (changed(lambda d: d["model"].update(type="Unigram")), "model.type is 'Unigram'"),
        (changed(lambda d: d["model"].update(byte_fallback=False)), "byte_fallback is False"),
        (changed(lambda d: d.update(normalizer={"type": "NFKC"})), "normalizer is .*NFKC"),
        (changed(lambda d: d["model"]["vocab"].pop("a")), "expected"),
        (changed(lambda d: d["model"].update(merges=[["a"]])), "is not a tokenizer.json"),
        (changed(lambda d: add(d, "<total>", 1665)), r"has 1 tokens after <image> \(<total>\)"),
        (changed(lambda d: [add(d, f"<k{i}>", 1665 + i) for i in range(5)]), "has 5 tokens after"),
    ],
    ids=range(12),
)
def test_what_cannot_be_read_is_refused(data, message):
    with pytest.raises(UserError, match=message) as e:
        rebuilt(data)
    assert str(e.value).endswith(".") and "\n" not in str(e.value)


def test_a_vocabulary_in_another_order_is_refused():
    """As a processor makes it from Gemma's own tokenizer: `<image>`, then the locations."""

    def swap(data):
        for token in data["added_tokens"]:
            if token["content"] == "<image>":
                token["id"] = 512
            elif token["id"] >= 512:
                token["id"] += 1
        vocabulary = data["model"]["vocab"]
        for name in [n for n, i in vocabulary.items() if i >= 512]:
            del vocabulary[name]

    with pytest.raises(UserError, match=r"has 1152 tokens after <image> \(<loc0000>"):
        rebuilt(changed(swap))
