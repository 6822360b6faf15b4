"""Answers with the scores of official evaluators, which `tools/official_scores.py` has stored."""

import hashlib
import json

import pytest
from conftest import GOLDEN

from pgjax.metrics import get_metric

STORED = json.loads((GOLDEN / "official_scores.json").read_text())
METRICS = {
    "vqa": ("vqa_accuracy", {}, "acc"),
    "textvqa": ("textvqa", {}, "acc_textvqa"),
    "rrc": ("anls", {"lower": True}, "anls"),
    "aokvqa": ("vqa_accuracy", {"leave_one_out": False, "leave_out": "difficult"}, "acc"),
    "relaxed": ("relaxed_accuracy", {"lower": True}, "acc"),
}


@pytest.mark.parametrize("name", STORED)
def test_scores_are_the_official_ones(name):
    rows = STORED[name]["rows"]
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest() == STORED[name]["sha256"]
    metric, options, key = METRICS[name]
    score = get_metric(metric, **options)
    for i, (prediction, answers, official) in enumerate(rows):
        # Every third question of A-OKVQA is a difficult one, which is left out.
        found = score(prediction, {"answers": answers, "difficult": i % 3 == 0}).get(key)
        assert found == (official if official is None else pytest.approx(official, abs=1e-9))


def test_stored_scores_are_of_all_sizes():
    for name in METRICS:
        scores = [official for *_, official in STORED[name]["rows"]]
        assert 0 in scores and 1 in scores and len(scores) >= 50
