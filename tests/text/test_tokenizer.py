import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from pgjax.errors import UserError
from pgjax.text.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
TEXT = json.loads((GOLDEN / "text.json").read_text())


@pytest.fixture(scope="module", params=["tokenizer.model", "paligemma_tokenizer.model"])
def tok(request):
    """The base model, extended on the fly, and the same model as extended by the reference."""
    return Tokenizer.from_file(GOLDEN / request.param)


def test_vocabulary(tok):
    pieces = [tok.piece(i) for i in range(tok.vocab_size)]
    assert pieces == TEXT["pieces"]
    assert hashlib.sha256("\0".join(pieces).encode()).hexdigest() == TEXT["pieces_sha256"]
    assert (tok.pad_id, tok.eos_id, tok.bos_id, tok.unk_id) == (0, 1, 2, 3)
    assert list(tok.newline_ids) == TEXT["newline"]
    ends = [tok.loc_id(0)], [tok.loc_id(1023)], [tok.seg_id(0)], [tok.seg_id(127)]
    assert ends == tuple(TEXT[k] for k in ("loc0", "loc1023", "seg0", "seg127"))


@pytest.mark.parametrize("case", TEXT["to_int"], ids=lambda c: repr(c["text"]))
def test_encode(tok, case):
    assert tok.encode(case["text"]) == case["plain"]
    assert tok.encode(case["text"], bos=True, eos=True) == case["bos_eos"]
    assert tok.decode(case["plain"]) == case["back"]


def test_decode(tok):
    for case in TEXT["to_str"]:
        assert tok.decode(case["ids"]) == case["stop"]
        assert tok.decode(case["ids"], stop_at_eos=False) == case["nostop"]


def test_every_special_token_is_one_id_and_round_trips(tok):
    ids = list(range(tok.loc_id(0), tok.vocab_size))
    text = tok.decode(ids)
    assert text.startswith("<loc0000><loc0001>") and text.endswith("<seg127>")
    assert tok.encode(text) == ids


def test_pickle(tok):
    copy = pickle.loads(pickle.dumps(tok))
    assert copy.encode("a cat <loc0007>") == tok.encode("a cat <loc0007>")
    assert Tokenizer(tok.model_bytes).model_bytes == tok.model_bytes


def test_out_of_range(tok):
    for call in (lambda: tok.decode([5, tok.vocab_size]), lambda: tok.piece(-1)):
        with pytest.raises(UserError, match=r"expected a value in 0\.\.1663"):
            call()
    with pytest.raises(UserError, match=r"location is 1024, expected a value in 0\.\.1023"):
        tok.loc_id(1024)


def test_missing_and_corrupt_files(tmp_path):
    with pytest.raises(
        UserError, match=r"The tokenizer .*none\.model cannot be read \(No such file"
    ):
        Tokenizer.from_file(tmp_path / "none.model")
    for name, content in {
        "empty": b"",
        "lfs": b"version https://git-lfs.github.com/spec/v1",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name} is not a SentencePiece model: got"):
            Tokenizer.from_file(tmp_path / name)


def test_wrong_layouts_are_refused():
    base = (GOLDEN / "tokenizer.model").read_bytes()
    extended = Tokenizer(base).model_bytes
    with pytest.raises(UserError, match=r"encodes <loc0500> as .*, expected the one id 1012"):
        Tokenizer(extended.replace(b"<loc0500>", b"<loc_500>"))
    with pytest.raises(UserError, match=r"pad, eos, bos = \(-1, 1, 2\), expected \(0, 1, 2\)"):
        Tokenizer(base.replace(b"<pad>", b"<dap>", 1))


def test_tiny():
    tiny = Tokenizer.tiny()
    golden = Tokenizer.from_file(GOLDEN / "tokenizer.model")
    assert tiny.vocab_size == golden.vocab_size
    assert [tiny.piece(i) for i in range(271)] == [golden.piece(i) for i in range(271)]
    assert tiny.newline_ids == golden.newline_ids
    for text in ("answer en how many red circles are there?", "  two\n\nlines\t✓ 42%", " a"):
        assert tiny.decode(tiny.encode(text)) == text
        assert tiny.unk_id not in tiny.encode(text)
    assert len(tiny.encode("caption en")) == 2


def test_tiny_is_what_its_tool_makes(tmp_path):
    out = tmp_path / "out.model"
    subprocess.run([sys.executable, ROOT / "tools" / "train_tokenizer.py", out], check=True)
    made = Tokenizer.from_file(out)
    assert made.model_bytes == Tokenizer.tiny().model_bytes
