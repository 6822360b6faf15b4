"""VQA accuracy and its clean-up; rows of the reference evaluators are in test_golden_metrics.py."""

import itertools
import random

import pytest

from pgjax.errors import DataError
from pgjax.metrics import get_metric
from pgjax.metrics.vqa import clean_answer, textvqa, vqa_accuracy


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
        ("." * 40, "." * 8),
    ],
)
def test_clean_answer(text, cleaned):
    assert clean_answer(text) == cleaned


# An evaluation written from its description and its public behaviour, character by character.

MARKS = {*';/[]"{}()=+\\_-><@`,?!'}
NUMBERS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "ten": "10"}
APOSTROPHES = {
    "aint": "ain't", "cant": "can't", "dont": "don't", "wont": "won't", "isnt": "isn't",
    "hes": "he's", "whats": "what's", "thats": "that's", "theyre": "they're", "youve": "you've",
    "couldn'tve": "couldn't've", "couldnt've": "couldn't've", "oclock": "o'clock", "maam": "ma'am",
    "yall": "y'all", "y'alld've": "y'all'd've", "twas": "'twas", "somebody'd": "somebodyd",
    "shouldve": "should've", "wheres": "where's", "howd": "how'd", "whod've": "who'd've",
}  # fmt: skip


def scan(text):
    """Marks, then full stops, then words."""
    digits = [i for i in range(1, len(text) - 1) if text[i] == ","]
    remove = any(text[i - 1].isdigit() and text[i + 1].isdigit() for i in digits)
    beside_space = {
        c for a, b in itertools.pairwise(text) for c in ((a, b) if " " in (a, b) else ())
    }
    out, stops = [], 0
    for c in text:
        if c in MARKS:
            if not (remove or c in beside_space):
                out.append(" ")
        else:
            out.append(c)
    kept = []
    for i, c in enumerate(out):
        before_digit = i + 1 < len(out) and out[i + 1].isdigit()
        if c == "." and not before_digit and stops < 32:
            stops += 1
        else:
            kept.append(c)
    words = []
    for word in "".join(kept).lower().split():
        word = NUMBERS.get(word, word)
        if word not in ("a", "an", "the"):
            words.append(APOSTROPHES.get(word, word))
    return " ".join(words)


def official(prediction, answers):
    strip = [t.replace("\n", " ").replace("\t", " ").strip() for t in (prediction, *answers)]
    if len(set(strip[1:])) > 1:
        strip = [scan(t) for t in strip]
    got, references = strip[0], strip[1:]
    scores = []
    for i in range(len(references)):
        others = references[:i] + references[i + 1 :]
        scores.append(min(1, sum(other == got for other in others) / 3))
    return sum(scores) / len(scores)


PIECES = [
    "a", "an", "the", "The", "A", "red", "Bus", "t", "shirt", "3", "5", "1,000", "2.5", ".5", "5.",
    "1,5-2", "10:30", "U.S.", "st.", "$3.50", "50%", "no", "yes", "it's", "'s", "&", "#", "é", "x",
    *NUMBERS, *APOSTROPHES, *MARKS, ".", "..", ",", "  ", "\n", "\t", "-", "/", "'",
]  # fmt: skip


def test_stressed_clean_up():
    """Articles, numbers, contractions, commas, full stops in numbers, in every combination."""
    rng = random.Random(0)
    right = 0
    for _ in range(4000):
        answer = "".join(
            rng.choice(PIECES) + rng.choice(["", " ", " "]) for _ in range(rng.randint(1, 6))
        )
        assert clean_answer(answer) == scan(answer), answer
        variants = [
            answer,
            answer.lower(),
            clean_answer(answer),
            answer.replace("-", " "),
            answer.replace(" ", ""),
            "the " + answer,
            rng.choice(PIECES),
        ]
        answers = [rng.choice(variants) for _ in range(10)]
        if rng.random() < 0.1:
            answers = [answer] * 10
        prediction = rng.choice(variants)
        score = vqa_accuracy(prediction, {"answers": answers})["acc"]
        assert score == pytest.approx(official(prediction, answers)), (prediction, answers)
        right += score == 1
    assert 400 < right < 3600


def test_lower_and_unlabelled():
    metric = get_metric("vqa_accuracy", leave_one_out=False, lower=True)
    assert metric("STOP", {"answers": ["stop"] * 3}) == {"acc": 1.0}
    assert metric("STOP", {"answers": []}) == {}


@pytest.mark.parametrize(
    ("prediction", "answer", "scores"),
    [
        ("Yes", "yes", (0, 1)),
        ("nokia.", "nokia", (0, 1)),
        ("nokia", "nokia", (1, 1)),
        ("1,000?", "1000", (0, 1)),
        ("Levi's", "levi 's", (0, 1)),
        ("the\ttwo", "2", (0, 1)),
        ("lg", "nokia", (0, 0)),
    ],
)
def test_textvqa_cleans_up_where_annotators_agree(prediction, answer, scores):
    got = textvqa(prediction, {"answers": [answer] * 10})
    assert got == {"acc": scores[0], "acc_textvqa": scores[1]}
    assert textvqa(prediction, {"answers": []}) == {}


def test_questions_that_are_left_out():
    metric = get_metric("vqa_accuracy", leave_one_out=False, leave_out="difficult")
    meta = {"answers": ["a"] * 10}
    assert metric("a", {**meta, "difficult": False}) == {"acc": 1.0}
    assert metric("a", {**meta, "difficult": True}) == {}
    with pytest.raises(DataError, match="by the key 'difficult'.* prepare"):
        metric("a", meta)
