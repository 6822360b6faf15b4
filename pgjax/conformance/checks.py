"""The checks: what an adapter's methods return beside what is expected, and the probable cause."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pgjax.conformance.adapter import Adapter, Example
from pgjax.conformance.differences import EXACT, GREY, LOGITS, RELATIVE, count_wrong, diff, rel
from pgjax.conformance.stored_outputs import (
    BEAMS,
    NEW_TOKENS,
    StoredOutputs,
    prefix_mask,
)
from pgjax.conformance.tiny_models import EOS

BOS = 2
MASKS = 1e-4  # the absolute tolerance of decoded masks
GRADIENTS = 5e-5  # the tolerance of gradients, relative to the parameter's largest
_PADDING = 3  # columns of padding behind the masks that are compared
_SHOWN = 6  # tokens that a message quotes

# What a known fault makes of an output -> what to say where just that was got.
CAUSES = {
    "no_newline": "the line break behind the prompt is missing; add it to the prompt, as its own "
    "token",
    "double_newline": "the line break behind the prompt is there twice",
    "joined": "the line break is tokenized together with the prompt, so that two line breaks "
    "become another token; tokenize it on its own",
    "double_bos": "bos is there twice; probably the tokenizer adds it to a text that has it",
    "no_bos": "bos is missing",
    "no_eos": "eos is missing at the end of the answer, so that a model learns never to stop",
    "double_eos": "eos is there twice",
    "all_causal": "no token is marked as the prompt's (token types all ones), so that the prompt "
    "is attended to causally, and supervised",
    "all_prompt": "no token is marked as the answer's (token types all zeros), so that the answer "
    "sees itself, and nothing is supervised",
    "bicubic": "this is bicubic resizing; the checkpoints were trained on bilinear resizing with "
    "antialiasing",
    "bilinear_aliased": "this is bilinear resizing without antialiasing; the checkpoints were "
    "trained with it",
    "bicubic_aliased": "this is bicubic resizing without antialiasing; the checkpoints were "
    "trained on bilinear resizing with antialiasing",
    "cropped": "the picture is cropped to a square first; the checkpoints were trained on whole "
    "pictures",
    "cropped_aliased": "the picture is cropped to a square, and resized without antialiasing; the "
    "checkpoints were trained on whole pictures, resized with it",
    "nearest": "this is nearest-neighbour resizing; the checkpoints were trained on bilinear "
    "resizing with antialiasing",
    "range": "the values are in 0..1 or 0..255, expected -1..1",
    "causal": "the prompt is attended to causally (token types all ones), where image and prompt "
    "are seen in full",
    "text_causal": "the prompt's text is attended to causally (token types all ones), where image "
    "and prompt are seen in full",
    "full": "the answer is leaked: each of its tokens sees those behind it (token types all "
    "zeros), so that training learns to copy",
    "padding": "padding is attended to",
    "divided": "the image tokens are divided by the root of the decoder's width",
    "multiplied": "the image tokens are multiplied by the root of the decoder's width, as only the "
    "text's are",
    "no_final_softcap": "the cap of the final logits is missing",
    "no_attention_softcap": "the cap of the attention's logits is missing",
    "sum": "this is the sum over the answer's tokens, expected their mean",
    "prompt_supervised": "the prompt is supervised as well",
    "without_eos": "eos is not supervised, so that a model learns never to stop",
    "by_token": "this is the mean over all tokens of the batch, so that long answers weigh more; "
    "the recipes take the mean of each example's mean",
    "batch": "alone each prompt is answered as expected, so padding between prompts of different "
    "lengths is attended to, or counted in positions",
    "missed": "the search misses it; probably an answer ends only where eos is among the best "
    "candidates of a step, where each open answer may end at each step",
    "swapped": "the numbers are read as x, y, x, y, expected y, x, y, x",
}  # fmt: skip


class Case(NamedTuple):
    """One comparison of a check.

    Attributes:
      where: which input it is about.
      difference: how much the output differs, in the unit of the check.
      tolerance: how much it may differ.
      cause: a probable cause, or what was got.
    """

    where: str
    difference: float
    tolerance: float
    cause: str = ""

    @property
    def differs(self) -> bool:
        """Whether the difference is beyond the tolerance."""
        return not self.difference <= self.tolerance


class Check(NamedTuple):
    """A function that yields the cases of a check, and the unit of their differences."""

    cases: Callable[[Adapter, StoredOutputs], Iterator[Case]]
    unit: str


def _tokens(adapter: Adapter, stored: StoredOutputs) -> Iterator[Case]:
    for text in stored.texts:
        prompt, answer = map(_integers, adapter.tokens(text["prefix"], text["suffix"]))
        wrong = count_wrong(prompt, text["prompt"]) + count_wrong(answer, text["answer"])
        cause = _token_cause(prompt, answer, text) if wrong else ""
        yield Case(f"the prompt {text['prefix']!r}", wrong, EXACT, cause)


def _token_cause(prompt: list[int], answer: list[int], text: Mapping[str, Any]) -> str:
    right_prompt, right_answer = text["prompt"], text["answer"]
    whole = right_prompt + right_answer
    if not prompt and answer == whole:
        return CAUSES["all_causal"]
    if prompt == whole and not answer:
        return CAUSES["all_prompt"]
    causes = []
    if prompt == text["joined"] != right_prompt:
        causes.append(CAUSES["joined"])
    elif prompt != right_prompt:
        inner, newline = right_prompt[1:-1], right_prompt[-1:]
        starts = {"": [BOS], "double_bos": [BOS, BOS], "no_bos": []}
        ends = {"": newline, "no_newline": [], "double_newline": newline * 2}
        causes += next(
            (
                [CAUSES[name] for name in names if name]
                for names in itertools.product(starts, ends)
                if prompt == starts[names[0]] + inner + ends[names[1]]
            ),
            [_got("the prompt's tokens", prompt, right_prompt)],
        )
    if answer != right_answer:
        variants = {"no_eos": right_answer[:-1], "double_eos": [*right_answer, EOS]}
        found = next((CAUSES[name] for name, x in variants.items() if answer == x), None)
        causes.append(found or _got("the answer's tokens", answer, right_answer))
    return "; ".join(causes)


def _image(adapter: Adapter, stored: StoredOutputs) -> Iterator[Case]:
    for name, picture in stored.shared.items():
        if not name.startswith("picture/"):
            continue
        key = f"resized/{name.removeprefix('picture/')}"
        got, want = np.asarray(adapter.image(picture), np.float32), stored.shared[key]
        levels = diff(got, want) * 127.5
        cause = ""
        if levels > GREY:
            # The ways of resizing differ by more than programs that resize in the same way.
            near = {
                k.removeprefix(f"{key}/"): diff(got, x / np.float32(127.5) - 1) * 127.5
                for k, x in stored.shared.items()
                if k.startswith(f"{key}/")
            }
            best = min(near, key=lambda way: near[way])
            if got.shape == want.shape and (got.min() >= 0 or got.max() > 1.5):
                cause = CAUSES["range"]
            elif near[best] < levels / 4:
                cause = CAUSES[best]
            else:
                cause = _shapes(got, want)
        height, width = picture.shape[:2]
        yield Case(f"a picture of {width} x {height} pixels", levels, GREY, cause)


def _mask(adapter: Adapter, stored: StoredOutputs) -> Iterator[Case]:
    image = stored.own["image_tokens"].shape[1]
    length = max(len(x.prompt) + len(x.answer) for x in stored.examples) + _PADDING
    for example in stored.examples:
        for kind, answer in (("training", example.answer), ("answering", [])):
            prompt, rows = len(example.prompt), image + len(example.prompt) + len(answer)
            # What padding attends to does not matter.
            want = prefix_mask(image, prompt, len(answer), length)[:rows]
            got = np.asarray(adapter.mask(Example(example.pixels, example.prompt, answer), length))
            if got.shape != (image + length, image + length):
                cause = f"got shape {got.shape}, expected {(image + length,) * 2}"
                yield Case("the shape", float("inf"), EXACT, cause)
                continue
            got = got[:rows].astype(bool)
            wrong = int((got != want).sum())
            cause = _mask_cause(got, want, image) if wrong else ""
            yield Case(f"{kind}, {prompt} tokens of prompt", wrong, EXACT, cause)


def _mask_cause(got: np.ndarray, want: np.ndarray, image: int) -> str:
    rows, columns = want.shape
    causal = np.tri(rows, columns, dtype=bool)
    own = np.arange(columns)[None, :] < rows
    variants = {
        "causal": causal,
        "text_causal": causal | (np.arange(columns)[None, :] < image),
        "full": np.broadcast_to(own, want.shape),
    }
    causes = []
    if (got & ~own).any():
        causes.append(CAUSES["padding"])
    if ((got & own) != want).any():
        found = [CAUSES[name] for name, x in variants.items() if ((got & own) == x).all()]
        missing, extra = int((want & ~got).sum()), int((got & own & ~want).sum())
        causes.append(found[0] if found else f"{missing} pairs are missing and {extra} too many")
    return "; ".join(causes)


def _image_tokens(adapter: Adapter, stored: StoredOutputs) -> Iterator[Case]:
    for i, example in enumerate(stored.examples):
        want = stored.own["image_tokens"][i]
        got = np.asarray(adapter.image_tokens(example.pixels), np.float32)
        scale = np.float32(want.shape[-1] ** 0.5)
        known = {"divided": diff(got, want / scale), "multiplied": diff(got, want * scale)}
        cause = _explained(known, LOGITS * float(scale))
        yield Case(f"example {i + 1}", diff(got, want), LOGITS, cause or _shapes(got, want))


def _logits(adapter: Adapter, stored: StoredOutputs) -> Iterator[Case]:
    for i, example in enumerate(stored.examples[:2]):
        want = stored.own[f"logits/{i}"]
        got = np.asarray(adapter.logits(example), np.float32)
        length, vocabulary = len(example.prompt) + len(example.answer), want.shape[1]
        if got.shape != (length, vocabulary):
            cause = f"got shape {got.shape}, expected {(length, vocabulary)}"
            yield Case("the shape", float("inf"), LOGITS, cause)
            continue
        # The variants are stored at the last token but one.
        variants = stored.variants(f"logits/{i}")
        tolerance = LOGITS / 10 * float(np.abs(want).max())
        cause = _explained({k: diff(got[-2], x) for k, x in variants.items()}, tolerance)
        got = got[len(example.prompt) - 1 :]
        difference = diff(got, want)
        cause = cause or _by_size(difference)
        yield Case(f"example {i + 1}", difference, tolerance, cause)


def _loss(adapter: Adapter, stored: StoredOutputs) -> Iterator[Case]:
    for i, example in enumerate(stored.examples[:2]):
        yield _loss_case(f"example {i + 1}", adapter.loss([example]), stored, f"loss/{i}")


def _batch_loss(adapter: Adapter, stored: StoredOutputs) -> Iterator[Case]:
    got = adapter.loss(stored.examples[:2])
    yield _loss_case("two examples of different lengths", got, stored, "loss/batch")


def _loss_case(where: str, got: float, stored: StoredOutputs, key: str) -> Case:
    variants = {k: rel(got, x) for k, x in stored.variants(key).items()}
    want = stored.own[key]
    cause = _explained(variants, RELATIVE) or f"got {float(got):.6g}, expected {float(want):.6g}"
    return Case(where, rel(got, want), RELATIVE, cause)


def _gradient(adapter: Adapter, stored: StoredOutputs) -> Iterator[Case]:
    for name, want in stored.variants("gradient").items():
        got = np.asarray(adapter.gradient(stored.examples[0], name), np.float32)
        yield Case(name, rel(got, want), GRADIENTS, _multiple(got, want))


def _multiple(got: np.ndarray, want: np.ndarray) -> str:
    """What to say where a gradient only has another length."""
    if got.shape != want.shape:
        return _shapes(got, want)
    if rel(got, want) < 1e-3:
        return "probably rounding"
    factor = float((got * want).sum() / (want * want).sum())
    return f"this is {factor:.4g} times what is expected" if rel(got, factor * want) < 1e-4 else ""


def _greedy(adapter: Adapter, stored: StoredOutputs) -> Iterator[Case]:
    yield from _answers(adapter, stored, 1)


def _beam(adapter: Adapter, stored: StoredOutputs) -> Iterator[Case]:
    yield from _answers(adapter, stored, BEAMS)


def _answers(adapter: Adapter, stored: StoredOutputs, beams: int) -> Iterator[Case]:
    prompts = [Example(x.pixels, x.prompt, []) for x in stored.examples]
    most = NEW_TOKENS[beams]
    wants = [_until_eos(row) for row in stored.own[f"answers/{beams}"].tolist()]
    gots = [_until_eos(x[:most]) for x in adapter.answers(prompts, beams, most)]
    wrong = [count_wrong(got, want) for got, want in zip(gots, wants, strict=True)]
    alone = any(wrong) and all(
        _until_eos(adapter.answers([x], beams, most)[0]) == want
        for x, want in zip(prompts, wants, strict=True)
    )
    for i, (got, want) in enumerate(zip(gots, wants, strict=True)):
        cause = CAUSES["batch"] if alone else _got("the answer's tokens", got, want)
        if wrong[i] and beams > 1 and not alone:
            cause = _missed(adapter, prompts[i], got, want) or cause
        yield Case(f"example {i + 1}", wrong[i], EXACT, cause)


def _missed(adapter: Adapter, prompt: Example, got: list[int], want: list[int]) -> str:
    """What to say where a beam search returned a less likely answer."""
    scores = []
    for ids in (got, want):
        try:
            logits = adapter.logits(Example(prompt.pixels, prompt.prompt, ids))
        except NotImplementedError:
            return ""
        logits = np.asarray(logits, np.float64)[len(prompt.prompt) - 1 : -1]
        each = logits[np.arange(len(ids)), ids] - np.log(np.exp(logits).sum(axis=1))
        scores.append(float(each.sum()))
    if scores[0] >= scores[1]:
        return ""
    return (
        f"the answer's log-probability is {scores[0]:.2f}, the expected one's {scores[1]:.2f}; "
        f"{CAUSES['missed']}"
    )


_SIZE = 480, 640  # of the image whose boxes are read
# Answers, and the labels and bins (y0, x0, y1, x1, in 1024ths) that they name.
_BOXES = {
    "<loc0256><loc0128><loc0768><loc0512> cat": [("cat", (256, 128, 768, 512))],
    "<loc0000><loc0010><loc0400><loc1023> big red bus ; <loc0500><loc0020><loc0900><loc0040> dog": [
        ("big red bus", (0, 10, 400, 1023)),
        ("dog", (500, 20, 900, 40)),
    ],
    f"<loc0100><loc0200><loc0300><loc0400>{'<seg007>' * 16} cat": [("cat", (100, 200, 300, 400))],
    "<loc0001><loc0002> cat": [],
    "no cat": [],
}


def _boxes(adapter: Adapter, stored: StoredOutputs) -> Iterator[Case]:
    del stored  # the format's definition says what is expected
    height, width = _SIZE
    scale = np.array([height, width, height, width]) / 1024
    for text, expected in _BOXES.items():
        found = list(adapter.boxes(text, height, width))
        labels = [str(label) for label, _ in found]
        got = np.array([box for _, box in found], float).reshape(-1, 4)
        want = np.array([bins for _, bins in expected], float).reshape(-1, 4) * scale
        # Some programs count in 1023rds, which is less than one bin of difference.
        difference = diff(got, want) if labels == [label for label, _ in expected] else float("inf")
        bins = np.array([b for _, b in expected], float).reshape(-1, 4)
        swapped = (bins * scale[[1, 0, 1, 0]])[:, [1, 0, 3, 2]]
        cause = CAUSES["swapped"] if diff(got, swapped) <= width / 1024 else f"got {found}"
        yield Case(repr(text), difference, width / 1024, cause)


def _decoded_mask(adapter: Adapter, stored: StoredOutputs) -> Iterator[Case]:
    for i, codes in enumerate(stored.shared["codes"].tolist()):
        want = stored.shared["masks"][i]
        got = np.asarray(adapter.decoded_mask(codes), np.float32)
        yield Case(f"mask {i + 1}", rel(got, want), MASKS, _shapes(got, want))


CHECKS: Mapping[str, Check] = {
    "tokens": Check(_tokens, "tokens"),
    "image": Check(_image, "grey levels"),
    "mask": Check(_mask, "pairs"),
    "image tokens": Check(_image_tokens, "absolute"),
    "logits": Check(_logits, "absolute"),
    "loss": Check(_loss, "relative"),
    "loss of a batch": Check(_batch_loss, "relative"),
    "gradient": Check(_gradient, "relative"),
    "greedy answers": Check(_greedy, "tokens"),
    "beam answers": Check(_beam, "tokens"),
    "boxes": Check(_boxes, "pixels"),
    "decoded mask": Check(_decoded_mask, "relative"),
}


def _explained(differences: Mapping[str, float], tolerance: float) -> str:
    """What to say of the first known fault whose output was got, or nothing."""
    return next((CAUSES[name] for name, x in differences.items() if x <= tolerance), "")


def _by_size(difference: float) -> str:
    """What usually makes logits differ so much; the figures are those of tiny models."""
    for most, cause in (
        (1e-3, "probably precision, or an epsilon of a norm (expected 1e-6)"),
        (0.1, "probably another GELU (expected the tanh approximation), or half precision"),
    ):
        if difference <= most:
            return cause
    return "probably the attention mask, positions, a missing norm, or the scale of embeddings"


def _shapes(got: np.ndarray, want: np.ndarray) -> str:
    return "" if got.shape == want.shape else f"got shape {got.shape}, expected {want.shape}"


def _got(what: str, got: Sequence[int], want: Sequence[int]) -> str:
    start = next((i for i, (a, b) in enumerate(zip(got, want, strict=False)) if a != b), None)
    start = min(len(got), len(want)) if start is None else start
    shown = slice(start, start + _SHOWN)
    return f"from place {start} on, {what} are {list(got[shown])}, expected {list(want[shown])}"


def _integers(ids: Sequence[int]) -> list[int]:
    return [int(i) for i in ids]


def _until_eos(ids: Sequence[int]) -> list[int]:
    """An answer up to and with eos."""
    ids = _integers(ids)
    return ids[: ids.index(EOS) + 1] if EOS in ids else ids
