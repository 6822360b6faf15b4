"""What the checks say of outputs: here those that are stored, with faults written by hand."""

import numpy as np
import pytest

from pgjax.conformance.adapter import Adapter
from pgjax.conformance.stored_outputs import StoredOutputs, prefix_mask
from pgjax.conformance.suite import run_check
from pgjax.conformance.tiny_models import SPECS, parameters

IMAGE = 16  # tokens


class Stored(Adapter):
    """Returns what is expected."""

    def __init__(self, stored):
        self.stored = stored

    def place(self, example):
        pixels = [x.pixels.tobytes() for x in self.stored.examples]
        return pixels.index(example.pixels.tobytes())

    def tokens(self, prefix, suffix):
        text = next(t for t in self.stored.texts if (t["prefix"], t["suffix"]) == (prefix, suffix))
        return text["prompt"], text["answer"]

    def image(self, picture):
        names = [k for k, x in self.stored.shared.items() if x is picture]
        return self.stored.shared[names[0].replace("picture", "resized")]

    def mask(self, example, length):
        return prefix_mask(IMAGE, len(example.prompt), len(example.answer), length)

    def image_tokens(self, pixels):
        places = [x.pixels is pixels for x in self.stored.examples]
        return self.stored.own["image_tokens"][places.index(True)]

    def logits(self, example):
        rows = self.stored.own[f"logits/{self.place(example)}"]
        return np.pad(rows, ((len(example.prompt) - 1, 0), (0, 0)))

    def loss(self, examples):
        name = "batch" if len(examples) > 1 else self.place(examples[0])
        return float(self.stored.own[f"loss/{name}"])

    def gradient(self, example, name):
        return self.stored.own[f"gradient/{name}"]

    def answers(self, examples, beams, max_new_tokens):
        rows = self.stored.own[f"answers/{beams}"].tolist()
        return [rows[self.place(x)] for x in examples]


@pytest.fixture(scope="module", params=list(SPECS))
def stored(request):
    return StoredOutputs(request.param)


def test_the_stored_outputs_are_of_the_models(stored):
    family = "paligemma2" if "logits/0/no_final_softcap" in stored.own else "paligemma"
    stored.check_model(parameters(family))


@pytest.mark.parametrize(
    "check",
    ["tokens", "image", "mask", "image tokens", "logits", "loss", "loss of a batch", "gradient",
     "greedy answers", "beam answers"],
)  # fmt: skip
def test_what_is_expected_agrees(stored, check):
    found = run_check(check, Stored(stored), stored)
    assert found.result == "agrees" and found.difference <= found.tolerance


def changed(method, change):
    """An adapter of which one method's result is changed."""

    def run(self, *args):
        return change(self, getattr(Stored, method)(self, *args), *args)

    return type("Changed", (Stored,), {method: run})


def said(stored, check, method, change):
    found = run_check(check, changed(method, change)(stored), stored)
    assert found.result == "differs" and found.difference > found.tolerance
    return found.text


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda p, a: (p[1:], a), "bos is missing"),
        (lambda p, a: ([2, *p[:-1]], a), "bos is there twice; probably the tokenizer adds it to a "
         "text that has it; the line break behind the prompt is missing"),
        (lambda p, a: ([*p, p[-1]], a), "the line break behind the prompt is there twice"),
        (lambda p, a: (p, a[:-1]), "eos is missing at the end of the answer"),
        (lambda p, a: (p, [*a, 1]), "eos is there twice"),
        (lambda p, a: ([], [*p, *a]), "no token is marked as the prompt's (token types all ones)"),
        (lambda p, a: ([*p, *a], []), "no token is marked as the answer's"),
        (lambda p, a: ([p[0], 5, *p[1:]], a), "from place 1 on, the prompt's tokens are [5, "),
    ],
)  # fmt: skip
def test_tokens(stored, change, cause):
    assert cause in said(stored, "tokens", "tokens", lambda self, out, *_: change(*out))


def test_one_text_alone_differs(stored):
    text = said(
        stored, "tokens", "tokens",
        lambda self, out, prefix, _: (out[0][:-1], out[1]) if prefix == "caption de" else out,
    )  # fmt: skip
    assert text.startswith("1 of 12 cases differ, such as the prompt 'caption de': the line break")


@pytest.mark.parametrize(
    ("way", "cause"),
    [
        ("bicubic", "this is bicubic resizing; the checkpoints were trained on bilinear"),
        ("bilinear_aliased", "this is bilinear resizing without antialiasing"),
        ("nearest", "nearest-neighbour"),
        ("cropped", "cropped to a square first"),
    ],
)
def test_images(stored, way, cause):
    def change(self, out, picture):
        name = next(k for k, x in stored.shared.items() if x is picture)
        return stored.shared[f"{name.replace('picture', 'resized')}/{way}"] / 127.5 - 1

    assert cause in said(stored, "image", "image", change)
    assert "in 0..1" in said(stored, "image", "image", lambda self, out, _: (out + 1) / 2)
    assert "got shape" in said(stored, "image", "image", lambda self, out, _: out[1:])


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda mask, columns: np.tri(len(mask), dtype=bool), "the prompt is attended to causally"),
        (lambda mask, columns: np.tri(len(mask), dtype=bool) | (columns < IMAGE),
         "the prompt's text is attended to causally"),
        (lambda mask, columns: mask | (columns >= len(mask) - 3), "padding is attended to"),
        (lambda mask, columns: np.where(columns == 0, False, mask), "pairs are missing and 0 too"),
        (lambda mask, columns: mask[1:], "got shape"),
    ],
)  # fmt: skip
def test_masks(stored, change, cause):
    def run(self, mask, *_):
        return change(mask, np.arange(len(mask))[None])

    assert cause in said(stored, "mask", "mask", run)


def test_a_leaking_mask(stored):
    def full(self, mask, example, length):
        valid = IMAGE + len(example.prompt) + len(example.answer)
        return np.broadcast_to(np.arange(len(mask)) < valid, mask.shape)

    assert "the answer is leaked" in said(stored, "mask", "mask", full)


def test_image_tokens(stored):
    text = said(stored, "image tokens", "image_tokens", lambda self, out, _: out / 8)
    assert "divided by the root" in text


def test_logits(stored):
    def with_fault(name):
        def change(self, out, example):
            out = out.copy()
            out[-2] = stored.own[f"logits/{self.place(example)}/{name}"]
            return out

        return change

    assert "(token types all ones)" in said(stored, "logits", "logits", with_fault("causal"))
    if "logits/0/no_final_softcap" in stored.own:
        text = said(stored, "logits", "logits", with_fault("no_attention_softcap"))
        assert "the cap of the attention's logits is missing" in text
    small = said(stored, "logits", "logits", lambda self, out, _: out + np.float32(5e-4))
    assert "epsilon of a norm" in small
    nan = said(stored, "logits", "logits", lambda self, out, _: out * np.nan)
    assert nan
    assert "got shape" in said(stored, "logits", "logits", lambda self, out, _: out[:, :9])


def test_losses(stored):
    def known(name):
        return lambda self, out, examples: float(
            stored.own[f"loss/{'batch' if len(examples) > 1 else self.place(examples[0])}/{name}"]
        )

    assert "the sum over the answer" in said(stored, "loss", "loss", known("sum"))
    assert "the prompt is supervised" in said(stored, "loss", "loss", known("prompt_supervised"))
    text = said(
        stored, "loss of a batch", "loss", lambda *_: float(stored.own["loss/batch/by_token"])
    )
    assert "mean over all tokens of the batch" in text


def test_gradients(stored):
    text = said(stored, "gradient", "gradient", lambda self, out, *_: out * 3)
    assert "this is 3 times what is expected" in text
    assert "got shape" in said(stored, "gradient", "gradient", lambda self, out, *_: out[:1])


def test_answers_that_differ_in_a_batch_alone(stored):
    def change(self, out, examples, *_):
        return [[5]] * len(out) if len(examples) > 1 else out

    assert "padding between prompts" in said(stored, "greedy answers", "answers", change)


def test_less_likely_beam_answers(stored):
    class Long(Stored):
        def answers(self, examples, beams, most):
            return [[5] * most] * len(examples)

    class Scored(Long):
        def logits(self, example):  # all tokens are equally likely, so long answers are less so
            return np.zeros((len(example.prompt) + len(example.answer), 1664))

    text = run_check("beam answers", Scored(stored), stored).text
    assert f"the answer's log-probability is {-24 * np.log(1664):.2f}, the expected one's" in text
    assert "probably an answer ends only where eos is among the best candidates" in text
    assert "from place 0 on" in run_check("greedy answers", Scored(stored), stored).text


def test_boxes(stored):
    class Boxes(Stored):
        def boxes(self, text, height, width):
            numbers = [int(x[:4]) / 1024 for x in text.split("<loc")[1:]]
            label = text.split(">")[-1].strip()
            if len(numbers) != 4:
                return []
            x0, y0, x1, y1 = numbers
            return [(label, (y0 * height, x0 * width, y1 * height, x1 * width))]

    assert "read as x, y, x, y" in run_check("boxes", Boxes(stored), stored).text


def test_not_offered_is_not_passed(stored):
    found = run_check("decoded mask", Stored(stored), stored)
    assert found.result == "not offered" and found.difference is None and not found.is_fault


def test_an_error_is_a_fault(stored):
    def change(self, out, *_):
        raise ValueError("no such\nthing")

    found = run_check("loss", changed("loss", change)(stored), stored)
    assert found.result == "fails" and found.is_fault
    assert found.text == "ValueError: no such thing"
