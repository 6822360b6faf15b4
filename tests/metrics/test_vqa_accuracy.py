import json
import pathlib

import pytest

from pgjax.metrics import get_metric
from pgjax.metrics.aggregate import Mean
from pgjax.metrics.vqa import clean_answer, vqa_accuracy

# Scores that the reference evaluators (big_vision's vqav2.py and vqa.py) gave.
GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "metrics_vqa.json").read_text())


@pytest.mark.parametrize("row", GOLDEN["vqav2"], ids=lambda row: repr(row["pred"]))
def test_official_reference(row):
    meta = {"answers": row["gts"], "answer_type": row["type"]}
    assert vqa_accuracy(row["pred"], meta)["acc"] == pytest.approx(row["acc"], abs=1e-12)
    text = row["pred"].replace("\n", " ").replace("\t", " ").strip()
    assert clean_answer(text) == row["post"]


def test_official_table():
    mean = Mean()
    for row in GOLDEN["vqav2"]:
        mean.add(vqa_accuracy(row["pred"], {"answers": row["gts"], "answer_type": row["type"]}))
    mean.add(vqa_accuracy("yes", {"answers": [], "answer_type": "yes/no"}))  # Unlabelled.
    result, counts = mean.result(), mean.counts()
    expected = GOLDEN["vqav2_metrics"]
    for key in ("acc", "acc/yesno", "acc/number", "acc/other"):
        assert result[key] == pytest.approx(expected[key], abs=1e-12)
        assert counts[key] == expected[key.replace("acc", "num")]


@pytest.mark.parametrize("row", GOLDEN["simple"], ids=lambda row: repr(row["pred"]))
def test_simple_reference(row):
    for lower, key in ((False, "acc"), (True, "lower_acc")):
        metric = get_metric("vqa_accuracy", leave_one_out=False, lower=lower)
        assert metric(row["pred"], {"answers": row["gts"]})["acc"] == pytest.approx(row[key])


@pytest.mark.parametrize("agreeing", range(11))
def test_leave_one_out_by_hand(agreeing):
    # Leaving out one who agrees leaves n-1, one who does not leaves n.
    by_hand = [0, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 1, 1][agreeing]
    answers = ["cat"] * agreeing + ["dog"] * (10 - agreeing)
    assert vqa_accuracy("cat", {"answers": answers})["acc"] == pytest.approx(by_hand)
    simple = vqa_accuracy("cat", {"answers": answers}, leave_one_out=False)["acc"]
    assert simple == pytest.approx(min(agreeing / 3, 1))


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("The red Bus!", "red bus"),
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("1,000 dogs", "1000 dogs"),
        ("t-shirt, 1,000", "tshirt 1000"),  # A comma in a number removes every mark.
        ("3.5 in.", "3.5 in"),
        ("U.S.A.", "usa"),
        ("two", "2"),
        ("none", "0"),
        ("couldnt've shouldntve", "couldn't've shouldntve"),
        ("ow's'at 'ows'at 'ow'sat", "'ow's'at 'ow's'at 'ow's'at"),
        ("Im lets", "im lets"),
        ("somebody'd", "somebodyd"),
    ],
)
def test_clean_answer(text, cleaned):
    assert clean_answer(text) == cleaned
