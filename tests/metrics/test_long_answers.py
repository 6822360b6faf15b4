"""Answers of any length: the scores are right, and take no more time than their length explains."""

import random

import pytest
from growth import grows_linearly

from pgjax.errors import DataError
from pgjax.metrics import get_metric
from pgjax.metrics.anls import edit_distance
from pgjax.metrics.ptb import ptb_tokenize


def distance_by_table(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def test_edit_distance_is_that_of_the_table():
    draw = random.Random(0)
    for _ in range(3000):
        a, b = ("".join(draw.choices("abé", k=draw.randrange(90))) for _ in range(2))
        assert edit_distance(a, b) == distance_by_table(a, b), (a, b)


def test_anls_of_long_answers():
    anls = get_metric("anls")
    text = "ab" * 20_000
    assert anls(text, {"answers": [text]}) == {"anls": 1.0}
    assert anls(text, {"answers": ["b" + text[:-1]]})["anls"] == pytest.approx(1 - 2 / 40_000)
    assert anls(text, {"answers": ["cd" * 20_000]}) == {"anls": 0.0}
    assert anls("x", {"answers": ["x" * 10**7]}) == {"anls": 0.0}


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ("a  b\n c", "a b c", 1),  # white space is collapsed
        ("a b", " a c ", 1 - 1 / 5),  # but counts in the length
        ("ab", "ac", 1 / 2),  # a tie
        ("abc", "axy", 0),
        ("ß", "s", 1 / 2),  # SS in upper case
        ("", "", 1),
        (" ", "", 1),
        ("", "a", 0),
    ],
)
def test_anls_as_in_the_robust_reading_competition(prediction, reference, score):
    assert get_metric("anls")(prediction, {"answers": [reference]}) == {"anls": score}
    got = get_metric("anls", lower=True)(prediction.upper(), {"answers": [reference]})
    assert prediction == "ß" or got == {"anls": score}


@pytest.mark.parametrize("part", ["😀", "&", "a/", "x.y", "http://", "'", "<a ", "é", "1-", "(:"])
def test_caption_tokenizer_takes_linear_time(part):
    ptb_tokenize([part * 50])  # builds the automaton
    assert grows_linearly(lambda text: ptb_tokenize([text]), lambda n: part * n, 1000)


@pytest.mark.parametrize("digits", ["9" * 5000, "0" * 5000, "٣" * 10, "1" * 10])
def test_numbers_of_many_digits(digits):
    counting = get_metric("counting")
    assert counting(digits, {"suffix": digits}) == {"acc": 1.0, "valid": 1.0}
    assert counting("3", {"suffix": digits}) == {"acc": 0.0, "valid": 1.0}
    assert counting("7", {"suffix": "7"}) == {"acc": 1.0, "valid": 1.0, "acc/count_7": 1.0}


def box(label):
    return {"label": label, "box": (0.1, 0.1, 0.5, 0.5), "score": 0.9}


def test_average_precision_of_names_that_are_numbers():
    metric = get_metric("mean_average_precision")
    truth = {"boxes": [(0.1, 0.1, 0.5, 0.5)] * 2, "labels": [3, "cat"]}
    assert metric([{**truth, "objects": [box("3"), box("cat")]}])["mAP"] == pytest.approx(1)


def test_average_precision_reads_the_whole_reference():
    metric = get_metric("mean_average_precision")
    text = "<loc0102><loc0102><loc0512><loc0512> a <loc0614><loc0512><loc0922><loc0922> b"
    record = {"suffix": text, "objects": [box("a")]}
    assert metric([record])["mAP"] == pytest.approx(0.5)
    for bad in ("<loc0102><loc0102><loc0512> a", text + " ; <loc0001>", "<loc0001>" * 8 + " a"):
        with pytest.raises(DataError, match="expected four tokens for each object"):
            metric([{"suffix": bad, "objects": [box("a")]}, record])
