"""Answers that list a given number of objects, and the probability of a label as their score."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgjax
from pgjax import trees
from pgjax.data.scenes import SceneSource
from pgjax.inference.detections import scored_boxes
from pgjax.loading.model_context import open_model_context
from pgjax.loading.parameters import load_parameters
from pgjax.recipes import transfer


@pytest.fixture(scope="module")
def model():
    return pgjax.load("tiny")


@pytest.fixture(scope="module")
def scene():
    return SceneSource("listed", tasks=("detect",), max_shapes=1, wording="pt", style="plain")[0]


def log_probabilities(scene, tokens):
    """Of an answer's tokens, from the logits of the whole text at once: float64 [T]."""
    config = transfer(
        "x", train={"name": "scenes"}, evals={}, prompt="", target="", variant="tiny",
        text_len=64, batch_size=1, steps=1, lr=1.0,
    )  # fmt: skip
    context = open_model_context(config)
    params = load_parameters(context, dict.fromkeys(context.shapes, "float32"))
    prompt = context.tokenizer.encode(scene["prefix"], bos=True) + context.tokenizer.encode("\n")
    text = np.int32([[*prompt, *tokens]])
    mask_ar = (np.arange(text.shape[1]) >= len(prompt)).astype(np.int32)[None]
    image = scene["image"][None].astype(np.float32) / 127.5 - 1
    with context.traced():
        hidden = context.model.apply({"params": trees.unflatten(params)}, image, text, mask_ar)
    logits = (
        np.asarray(hidden, np.float64)[0]
        @ np.asarray(params["llm/embedder/input_embedding"], np.float64).T
    )
    logits = logits[len(prompt) - 1 : -1]
    return (logits - np.asarray(jax.nn.logsumexp(jnp.asarray(logits), axis=1))[:, None])[
        np.arange(len(tokens)), tokens
    ]


def test_the_score_is_the_probability_of_the_label(model, scene):
    label = scene["prefix"].removeprefix("detect ")
    options = {"objects": 3, "sampler": "temperature(1)", "seed": 2}
    found = model.detect(scene["image"], label, **options)
    (answer,) = model.generate([scene["image"]], scene["prefix"], return_answers=True, **options)
    assert len(found) == 3 and answer.ended
    logprobs = log_probabilities(scene, answer.tokens)
    tokenizer = model.context.tokenizer
    separator = tokenizer.encode(" ; ")
    start, scores = 0, []
    ids = answer.tokens.tolist()
    while start < len(ids):
        stop = next(i for i in range(start, len(ids)) if ids[i] in (separator[0], tokenizer.eos_id))
        scores.append(float(np.exp(logprobs[start + 4 : stop].sum())))
        start = stop + len(separator)
    np.testing.assert_allclose([x.score for x in found], scores, rtol=2e-4)
    plain = scored_boxes(tokenizer, answer.tokens, answer.logprobs)
    assert [score for _, score in plain] != [x.score for x in found]


def test_only_answers_to_detect_are_lists(model, scene):
    caption = model.generate(scene["image"], "caption")
    assert model.generate(scene["image"], "caption", objects=2) == caption
    one, none = (model.generate(scene["image"], scene["prefix"], objects=n) for n in (1, 0))
    assert one == none and one.count("<loc") == 4
    assert "".join(model.stream(scene["image"], scene["prefix"], objects=2)).count("<loc") == 8
