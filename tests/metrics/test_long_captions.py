"""Descriptions in several sentences."""

import pytest

from pgjax.metrics import get_metric


def test_lengths_and_words():
    one = "A cat sits on a mat. It is gray (and old). Why? Indoors"
    records = [
        {"prediction": one, "answers": [one]},
        {"prediction": " Two dogs run. ", "answers": ["Three dogs sleep in a garden."]},
    ]
    scores = get_metric("long_captions")([dict(r) for r in records])
    plain = get_metric("cider", bleu=True)(records)
    assert {key: scores[key] for key in plain} == plain
    assert scores["characters"] == pytest.approx((len(one) + 13) / 2)
    assert scores["sentences"] == pytest.approx((4 + 1) / 2)
    assert get_metric("long_captions")([{"prediction": "", "answers": ["x"]}])["sentences"] == 0
