import json
from pathlib import Path

import numpy as np
import pytest

from pgjax.errors import DataError, UserError
from pgjax.text.compose import DropExample, answering_arrays, training_arrays
from pgjax.text.tokenizer import Tokenizer

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "text.json").read_text())["cases"]
LONG = next(c for c in CASES if c["suffix"].startswith("a very long caption"))


@pytest.fixture(scope="module")
def tok():
    return Tokenizer.from_file(GOLDEN / "tokenizer.model")


def check(got, expected):
    assert set(got) == set(expected)
    for key, value in expected.items():
        assert got[key].dtype == (np.bool_ if key == "mask_input" else np.int32)
        np.testing.assert_array_equal(got[key], np.asarray(value), err_msg=key)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["prefix"][:20])
def test_reference_arrays(tok, case):
    prefix, suffix, length = case["prefix"], case["suffix"], case["text_len"]
    cut = "truncate"
    train = training_arrays(tok, prefix, suffix, length, cut, allow_unsupervised=True)
    check(train, case["train"])
    check(answering_arrays(tok, prefix, length, None, cut), case["eval_nosuffix"])
    check(answering_arrays(tok, prefix, length, suffix, cut), case["eval_suffix"])


def test_the_shortest_length_that_fits(tok):
    """17 + 1 tokens of suffix and 8 of prefix: text_len + 1 positions hold them all."""
    case = CASES[0]
    arrays = training_arrays(tok, case["prefix"], case["suffix"], 24)
    assert arrays["text"].shape == (25,)
    assert arrays["text"][-1] == tok.eos_id
    with pytest.raises(DataError, match=r"25 tokens \(8 of prefix .*, 17 of suffix\), but only 24"):
        training_arrays(tok, case["prefix"], case["suffix"], 23)


def test_text_that_does_not_fit(tok):
    args = tok, LONG["prefix"], LONG["suffix"], LONG["text_len"]
    with pytest.raises(DataError) as error:
        training_arrays(*args)
    assert not isinstance(error.value, DropExample)
    with pytest.raises(DropExample):
        training_arrays(*args, on_truncate="drop")
    with pytest.raises(DataError, match="but only 5 fit"):
        answering_arrays(tok, LONG["prefix"], 5)
    with pytest.raises(UserError, match="on_truncate is 'cut'"):
        training_arrays(*args, on_truncate="cut")


def test_nothing_supervised_is_an_error(tok):
    with pytest.raises(
        DataError, match=r"no supervised token, because the 8 tokens of its prefix fill all 8"
    ):
        training_arrays(tok, "caption en", "a cat", 7, on_truncate="truncate")


def test_text_must_be_one_string(tok):
    with pytest.raises(DataError, match="The suffix is a list, expected one string"):
        training_arrays(tok, "caption en", ["a cat", "a dog"], 32)
    with pytest.raises(DataError, match="The prefix is a NoneType"):
        answering_arrays(tok, None, 32)
