import numpy as np
import pytest

from pgjax.data.pipeline import Pipeline
from pgjax.errors import DataError
from pgjax.text.compose import answering_arrays, training_arrays
from pgjax.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tok():
    return Tokenizer.tiny()


def run(spec, seed=0, tok=None, **example):
    return Pipeline.parse(spec, tok)(example, rng=np.random.default_rng(seed))


def test_strfmt_reads_bytes_as_text():
    out = run("strfmt('answer {lang} {q} {n:02d}', 'prefix')", q=b"wo\xc3?"[:2], lang="de", n=3)
    assert out["prefix"] == "answer de wo 03"


def test_choice():
    captions = np.array([b"one", b"two", b"three"], object)
    picked = {run("choice('caption')", seed, caption=captions)["caption"] for seed in range(30)}
    assert picked == {"one", "two", "three"}
    out = run("choice('caption', 'suffix')", caption=["only"])
    assert out == {"caption": ["only"], "suffix": "only"}
    with pytest.raises(DataError, match="'caption' is a str, expected a list to choose from"):
        run("choice('caption')", caption="abc")
    with pytest.raises(DataError, match="'caption' is an empty list"):
        run("choice('caption')", caption=[])


def test_choice_at():
    assert run("choice_at('a', 1)", a=["x", "y"])["a"] == "y"
    assert run("choice_at('a', -1, 'b')", a=["x", "y"])["b"] == "y"
    with pytest.raises(DataError, match="has 2 entries, so none at index 2"):
        run("choice_at('a', 2)", a=["x", "y"])


def test_case_space_join():
    assert run("lower('a')", a="ÄbC")["a"] == "äbc"
    assert run("lower('a')|strip('a')", a=[b" X", "Y\n"])["a"] == ["x", "y"]
    assert run("join('a', ' ; ', 'b')", a=["x", b"y", 3])["b"] == "x ; y ; 3"
    with pytest.raises(DataError, match="'a' holds a int, expected text"):
        run("lower('a')", a=3)


def test_boxes_to_loc(tok):
    boxes = np.array([[0, 0.5, 0.25, 0.9999], [0.1, 0.2, 1.0, 1.0], [0.3, 0.3, 0.3, 0.9]])
    out = run("boxes_to_loc", boxes=boxes, labels=["cat", b"dog", "gone"])
    assert out["suffix"] == (
        "<loc0000><loc0512><loc0256><loc1023> cat ; <loc0102><loc0205><loc1023><loc1023> dog"
    )
    assert len(tok.encode("<loc0000><loc0512><loc0256><loc1023>")) == 4
    assert run("boxes_to_loc", boxes=[], labels=[])["suffix"] == ""
    with pytest.raises(DataError, match="'boxes' has 1 boxes, but 'labels' is 2"):
        run("boxes_to_loc", boxes=[[0, 0, 1, 1]], labels=["a", "b"])


def test_a_crop_moves_the_boxes_in_the_text():
    example = {
        "image": np.zeros((40, 40, 3), np.uint8),
        "boxes": [[0.5, 0.5, 1.0, 0.75], [0.0, 0.0, 0.25, 0.25]],
        "labels": ["kept", "outside"],
    }
    out = run("crop((0.5, 0.5, 1, 1))|boxes_to_loc", **example)
    assert out["suffix"] == "<loc0000><loc0000><loc1023><loc0512> kept"


def test_tok(tok):
    out = run(
        "tok('a', 'ids', bos=True, eos=True)|tok(text='\\n', outkey='sep')", tok=tok, a=b"red"
    )
    assert out["ids"].tolist() == tok.encode("red", bos=True, eos=True)
    assert out["ids"].dtype == np.int32
    assert out["sep"].tolist() == list(tok.newline_ids)


def test_model_inputs_are_those_of_compose(tok):
    example = {"question": b"is it red?", "answer": "no"}
    got = run("for_training(32, 'question', 'answer')", tok=tok, **example)
    want = training_arrays(tok, "is it red?", "no", 32)
    assert set(got) == set(example) | set(want)
    for key, value in want.items():
        np.testing.assert_array_equal(got[key], value)
    got = run("for_answering(32, 'question')", tok=tok, **example)
    for key, value in answering_arrays(tok, "is it red?", 32).items():
        np.testing.assert_array_equal(got[key], value)


def test_truncation_is_marked(tok):
    example = {"prefix": "caption en", "suffix": "a red circle and a blue square and a star"}
    spec = "for_training({}, on_truncate='truncate')|keep('text')"
    cut = run(spec.format(8), tok=tok, **example)
    assert cut["_truncated"] is True
    assert cut["text"].shape == (9,)
    assert "_truncated" not in run(spec.format(64), tok=tok, **example)
    with pytest.raises(DataError, match=r"op 1 .*but only 9 fit"):
        run("for_training(8)", tok=tok, **example)
    with pytest.raises(DataError, match="no supervised token"):
        run("for_training(1, on_truncate='truncate')", tok=tok, **example)
    assert run("for_answering(2, on_truncate='truncate')", tok=tok, **example)["_truncated"] is True
