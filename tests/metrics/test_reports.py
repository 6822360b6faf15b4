"""Radiology reports: ROUGE-L by its definition, and RadGraph where it is installed."""

import functools
import importlib.util
import types

import numpy as np
import pytest

from pgjax.benchmarks.readers.mimic_cxr import sections
from pgjax.metrics import get_metric
from pgjax.metrics.ngrams import rouge_l

REPORTS = [
    {"prediction": "FINDINGS: The lungs are clear.", "answers": ["FINDINGS: Lungs are clear."]},
    {"prediction": "IMPRESSION: No fracture.", "answers": ["IMPRESSION: No acute fracture."]},
    {"prediction": "x", "answers": []},
]


def common(a, b):
    """The length of the longest common subsequence, by its recursion."""

    @functools.cache
    def length(i, j):
        if i == len(a) or j == len(b):
            return 0
        if a[i] == b[j]:
            return 1 + length(i + 1, j + 1)
        return max(length(i + 1, j), length(i, j + 1))

    return length(0, 0)


def texts(seed, count=100):
    rng = np.random.default_rng(seed)
    return [
        [[*rng.choice(list("abcde"), rng.integers(0, 15))] for _ in range(rng.integers(2, 5))]
        for _ in range(count)
    ]


def test_rouge_by_its_definition():
    for candidate, *references in texts(0):
        candidate, references = candidate or [""], [r or [""] for r in references]
        lengths = [common(candidate, r) for r in references]
        precision = max(lengths) / len(candidate)
        recall = max(n / len(r) for n, r in zip(lengths, references, strict=True))
        expected = 2.44 * precision * recall / max(recall + 1.44 * precision, 1e-9)
        assert rouge_l([candidate], [references]) == pytest.approx(expected, abs=1e-12)


def test_rouge_as_in_coco_caption():
    rouge = pytest.importorskip("pycocoevalcap.rouge.rouge").Rouge()
    words = texts(1, 1000)
    given = [{i: [" ".join(t) for t in part] for i, part in enumerate(parts)} for parts in (
        [refs for _, *refs in words], [[candidate] for candidate, *_ in words])]  # fmt: skip
    expected, _ = rouge.compute_score(*given)
    found = rouge_l([c for c, *_ in words], [refs for _, *refs in words])
    assert found == pytest.approx(expected, abs=1e-12)


def test_without_radgraph(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    scores = get_metric("radiology_report")([dict(r) for r in REPORTS])
    assert [*scores] == ["cider", "bleu1", "bleu2", "bleu3", "bleu4", "rouge_l"]
    assert 0 < scores["bleu4"] < scores["rouge_l"] < 1
    assert "RadGraph F1 is left out" in capsys.readouterr().err


def test_with_radgraph(monkeypatch):
    """What its package is asked for, in its place."""

    class F1RadGraph:
        def __init__(self, reward_level):
            assert reward_level == "partial"

        def __call__(self, hyps, refs):
            assert hyps == [r["prediction"] for r in REPORTS[:2]]
            assert refs == [r["answers"][0] for r in REPORTS[:2]]
            return 0.25, [0.5, 0.0], [], []

    package = types.ModuleType("radgraph")
    package.__spec__ = importlib.util.spec_from_loader("radgraph", None)
    package.F1RadGraph = F1RadGraph
    monkeypatch.setitem(__import__("sys").modules, "radgraph", package)
    scores = get_metric("radiology_report")([dict(r) for r in REPORTS])
    assert scores["radgraph"] == 0.25 and scores["rouge_l"] > 0


def test_sections():
    text = (
        "WET READ: a: b\n HISTORY: \n\n CLINICAL INFORMATION:\nPain, AP: x\n IMPRESSION: One\n two"
    )
    assert sections(text) == {
        "FINDINGS": "", "IMPRESSION": "One two", "INDICATION": "Pain, AP: x",
    }  # fmt: skip
    assert set(sections("no headings").values()) == {""}
