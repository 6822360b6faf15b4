"""Seeded faults in copies of pgjax's adapter: each is found by the right check, with its cause."""

import pytest

from pgjax.conformance.adapters.with_pgjax import PgjaxAdapter
from pgjax.conformance.checks import CHECKS
from pgjax.conformance.stored_outputs import StoredOutputs
from pgjax.conformance.suite import model_files, run_check

CHEAP = ("tokens", "image", "boxes", "decoded mask")


class CausalPrompt(PgjaxAdapter):
    """Token types all ones: the prompt is trained causally."""

    def _text(self, example, length):
        arrays = super()._text(example, length)
        return {**arrays, "mask_ar": arrays["mask_ar"] * 0 + 1}


class LeakedAnswer(PgjaxAdapter):
    """Token types all zeros: each token of the answer sees those behind it."""

    def _text(self, example, length):
        arrays = super()._text(example, length)
        padding = 1 - arrays["mask_loss"] if "mask_loss" in arrays else arrays["mask_ar"]
        return {**arrays, "mask_ar": arrays["mask_ar"] * padding}


class MissingNewline(PgjaxAdapter):
    def __init__(self, files):
        super().__init__(files)
        self._context.tokenizer.newline_ids = ()


class DoubleBos(PgjaxAdapter):
    def tokens(self, prefix, suffix):
        prompt, answer = super().tokens(prefix, suffix)
        return [self._context.tokenizer.bos_id, *prompt], answer


class Bicubic(PgjaxAdapter):
    def __init__(self, files):
        super().__init__(files)
        ops = "resize(56, 'bicubic', antialias=True)|value_range(-1, 1)"
        self._pipeline = self._context.pipeline(ops)


class Aliased(PgjaxAdapter):
    def __init__(self, files):
        super().__init__(files)
        self._pipeline = self._context.pipeline("resize(56)|value_range(-1, 1)")


@pytest.fixture(scope="module")
def stored():
    return StoredOutputs("paligemma")


@pytest.fixture(scope="module")
def files():
    with model_files("paligemma") as files:
        yield files


def findings(adapter, files, stored, names):
    loaded = adapter(files)
    return {name: run_check(name, loaded, stored) for name in names}


def test_without_a_fault(files, stored):
    for name, found in findings(PgjaxAdapter, files, stored, (*CHEAP, "mask", "loss")).items():
        assert found.result == "agrees" and not found.text, name


@pytest.mark.parametrize(
    ("adapter", "check", "cause"),
    [
        (MissingNewline, "tokens", "the line break behind the prompt is missing"),
        (DoubleBos, "tokens", "bos is there twice"),
        (Bicubic, "image", "this is bicubic resizing; the checkpoints were trained on bilinear"),
        (Aliased, "image", "this is bilinear resizing without antialiasing"),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_a_fault_of_preparation(files, stored, adapter, check, cause):
    found = findings(adapter, files, stored, CHEAP)
    assert found[check].result == "differs" and cause in found[check].text
    assert [name for name in CHEAP if found[name].result != "agrees"] == [check]


@pytest.mark.parametrize(
    ("adapter", "cause"),
    [
        (CausalPrompt, "attended to causally (token types all ones)"),
        (LeakedAnswer, "the answer is leaked"),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_a_fault_of_the_mask(files, stored, adapter, cause):
    found = findings(adapter, files, stored, (*CHEAP, "mask", "loss"))
    assert found["mask"].result == "differs" and cause in found["mask"].text
    assert found["loss"].result == "differs" and cause in found["loss"].text
    assert all(found[name].result == "agrees" for name in CHEAP)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
def test_pgjax_agrees(family):
    stored = StoredOutputs(family)
    with model_files(family) as files:
        for name, found in findings(PgjaxAdapter, files, stored, CHECKS).items():
            assert found.result == "agrees", (name, found)
