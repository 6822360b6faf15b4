"""The tokenizer of caption scores against coco-caption's, stored and (with Java) live."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
from conftest import GOLDEN

from pgjax.metrics import get_metric
from pgjax.metrics.ptb import ptb_tokenize

with_java = pytest.mark.skipif(
    shutil.which("java") is None or importlib.util.find_spec("pycocoevalcap") is None,
    reason="needs Java and pycocoevalcap",
)
SAMPLE = json.loads((GOLDEN / "ptb_sample.json").read_text())


def differences(captions, expected):
    got = ptb_tokenize(captions)
    assert len(got) == len(expected)
    return [x for x in zip(captions, expected, got, strict=True) if x[1] != x[2]]


def test_stored_sample():
    assert differences(SAMPLE["captions"], SAMPLE["tokens"]) == []


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A man, isn't he?", "a man is n't he"),
        ("cannot gonna 'tis", "can not gon na 't is"),
        ("He said: “It’s 5 o'clock”", "he said it 's 5 o'clock"),
        ("$3.50 or £20, 1 1/2 cups", "$ 3.50 or # 20 1\u00a01/2 cups"),
        ("(half-eaten) [pizza]", "-lrb- half-eaten -rrb- -lsb- pizza -rsb-"),
        ("e.g. the U.S. flag etc.", "e.g. the u.s. flag etc."),
        ("vitamin A. The end", "vitamin a the end"),
        ("vitamin A. the end", "vitamin a. the end"),
        ("🙂 北京 🙂x", "北京 x"),
        ("", ""),
    ],
)
def test_by_hand(caption, tokens):
    assert ptb_tokenize([caption]) == [tokens]


def test_what_follows_can_matter():
    assert ptb_tokenize(["plan B.", "The cat"]) == ["plan b", "the cat"]
    assert ptb_tokenize(["plan B.", "one cat"]) == ["plan b.", "one cat"]


def test_line_separators_inside_captions_do_not_shift_others():
    captions = ["a\nb", "c\r\nd", "e\u2028f", "", "g\r"]
    assert ptb_tokenize(captions) == ["a b", "c d", "e f", "", "g"]
    assert ptb_tokenize([]) == []


def test_stored_scores():
    check_scores(SAMPLE["candidates"], SAMPLE["references"], SAMPLE["scores"])


def check_scores(candidates, references, expected):
    records = [
        {"prediction": text, "answers": refs}
        for text, refs in zip(candidates, references, strict=True)
    ]
    scores = get_metric("cider", bleu=True)(records)
    assert scores["cider"] == pytest.approx(expected["cider"], abs=1e-9)
    bleu = [scores[f"bleu{n}"] for n in (1, 2, 3, 4)]
    np.testing.assert_allclose(bleu, expected["bleu"], atol=1e-9)
    single = [record["scores"]["cider"] for record in records]
    np.testing.assert_allclose(single, expected["single"], atol=1e-9)


@pytest.mark.java
@with_java
def test_live_tokens():
    from odd_captions import odd_captions, official_tokens

    captions = odd_captions(5000, seed=1)
    assert differences(captions, official_tokens(captions)) == []


@pytest.mark.java
@with_java
def test_live_scores():
    from odd_captions import corpus, official_scores

    candidates, references = corpus(5000, seed=2)
    check_scores(candidates, references, official_scores(candidates, references))
