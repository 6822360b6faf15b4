"""Objects and their scores, from tokens."""

import numpy as np
import pytest

from pgjax.inference.detections import scored_boxes
from pgjax.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.tiny()


def found(text, logprob=-1.0):
    tokens = np.array(TOKENIZER.encode(text), np.int32)
    return scored_boxes(TOKENIZER, tokens, np.full(len(tokens), logprob, np.float32))


def test_each_object_has_its_own_score():
    one, two = "<loc0000><loc0000><loc0512><loc1023> a ;", " <loc0100><loc0200><loc0300><loc0400> b"
    tokens = [np.array(TOKENIZER.encode(text), np.int32) for text in (one, two)]
    logprobs = [np.full(len(t), p, np.float32) for t, p in zip(tokens, (-0.5, -2.0), strict=True)]
    pairs = scored_boxes(TOKENIZER, np.concatenate(tokens), np.concatenate(logprobs))
    assert [box.label for box, _ in pairs] == ["a", "b"]
    # The space and the semicolon between objects belong to the one before.
    assert pairs[0][1] > pairs[1][1] and pairs[1][1] == pytest.approx(np.exp(-2.0))


@pytest.mark.parametrize("text", ["", "no such thing", "<loc0001><loc0002>", "a <seg001>"])
def test_an_answer_without_objects(text):
    assert found(text) == []
