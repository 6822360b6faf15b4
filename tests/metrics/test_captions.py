"""CIDEr-D and BLEU against pycocoevalcap's Python, options, and words in other languages."""

import random

import numpy as np
import pytest

from pgjax.errors import DataError, UserError
from pgjax.metrics import captions, get_metric
from pgjax.metrics.multilingual import multilingual_tokenize
from pgjax.metrics.ngrams import bleu, cider_d


def random_corpus(rng, number):
    words = [f"w{int(rng.paretovariate(0.8))}" for _ in range(200)]
    sentence = lambda: rng.choices(words, k=rng.randint(0, 12))  # noqa: E731
    return (
        [sentence() for _ in range(number)],
        [[sentence() for _ in range(rng.randint(1, 5))] for _ in range(number)],
    )


@pytest.mark.parametrize("number", [1, 2, 7, 60, 400])
def test_equal_to_the_official_python(number):
    cider = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    official_bleu = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4)
    candidates, references = random_corpus(random.Random(number), number)
    res = {i: [" ".join(tokens)] for i, tokens in enumerate(candidates)}
    gts = {i: [" ".join(tokens) for tokens in each] for i, each in enumerate(references)}
    total, single = cider.compute_score(gts, res)
    ours = cider_d(candidates, references)
    np.testing.assert_allclose(ours, single, atol=1e-12)
    assert np.mean(ours) == pytest.approx(total, abs=1e-12)
    expected, _ = official_bleu.compute_score(gts, res, verbose=0)
    np.testing.assert_allclose(bleu(candidates, references), expected, atol=1e-12)


def test_bleu_by_hand():
    """Precisions 5/6, 3/5, 1/4; the reference is one word longer."""
    candidate, reference = "the cat sat on a mat", "the cat sat on the red mat"
    scores = bleu([candidate.split()], [[reference.split()]])
    brevity = np.exp(1 - 7 / 6)
    expected = [5 / 6, (5 / 6 * 3 / 5) ** 0.5, (5 / 6 * 3 / 5 * 2 / 4) ** (1 / 3)]
    np.testing.assert_allclose(scores[:3], np.array(expected) * brevity, atol=1e-6)


def record(prediction, *answers, **more):
    return {"prediction": prediction, "answers": list(answers), **more}


def test_languages_are_corpora_of_their_own():
    english = [
        record("a red bus", "the red bus", "a bus", language="en"),
        record("two dogs", "two cats", language="en"),
    ]
    german = [
        record("ein Hund", "ein Hund", language="de"),
        record("der Bus", "ein roter Bus", language="de"),
    ]
    metric = get_metric("cider", tokenizer="split", bleu=True, key="language")
    scores = metric([english[0], german[0], english[1], german[1]])
    alone = {name: get_metric("cider", tokenizer="split", bleu=True)(group)
             for name, group in (("en", english), ("de", german))}  # fmt: skip
    for name, expected in alone.items():
        for score, value in expected.items():
            assert scores[f"{score}/{name}"] == value
    assert scores["cider"] == np.mean([alone["en"]["cider"], alone["de"]["cider"]]) > 0
    assert scores["cider/avg1"] == alone["de"]["cider"]  # all but English
    assert len(metric(german)) == 10  # and without English, nothing of the kind
    with pytest.raises(DataError, match="'language'"):
        metric([record("x", "y")])


def test_unlabelled_captions_are_not_counted():
    records = [record("a bus", "a bus"), record("x"), record("a dog", "a cat")]
    scores = get_metric("cider")(records)
    assert scores == get_metric("cider")([records[0], records[2]])
    assert "scores" not in records[1]
    with pytest.raises(DataError, match="none of 1 records"):
        get_metric("cider")([record("x")])
    with pytest.raises(UserError, match=r"'java'.*ptb.*multilingual"):
        get_metric("cider", tokenizer="java")(records)


def test_scores_through_pycocoevalcap_say_what_they_need(monkeypatch):
    records = [record("a bus", "a bus")]
    with pytest.raises(UserError, match=r"'bertscore'.*meteor"):
        get_metric("coco_caption", metrics=["bertscore"])(records)
    monkeypatch.setattr(captions.shutil, "which", lambda name: None)
    monkeypatch.setattr(captions.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UserError, match="need Java"):
        get_metric("coco_caption")(records)
    monkeypatch.setattr(captions.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install pycocoevalcap"):
        get_metric("coco_caption")(records)


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A man's dog, (running)!", "a man's dog running"),
        ("二隻狗在公園。", "二 隻 狗 在 公 園"),
        ("ﾊﾟﾝとコーヒー2つ", "パ ン と コ ー ヒ ー 2 つ"),
        ("แมวนั่งบนโต๊ะ", "แ ม ว นั่ ง บ น โ ต๊ ะ"),
        ("공원에 있는 개 두 마리", "공원에 있는 개 두 마리"),
        ("पार्क में दो कुत्ते।", "पार्क में दो कुत्ते"),
        ("Zwei Hunde – „groß“", "zwei hunde groß"),
        ("سگ‌ها در پارک", "سگ‌ها در پارک"),
        ("Ⅳ ＡＢＣ", "iv abc"),
        ("", ""),
    ],
)
def test_words_in_other_languages(caption, words):
    assert multilingual_tokenize([caption]) == [words]
