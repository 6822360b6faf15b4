"""Evaluators against brute force: no cache, no chunks, one example at a time."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
from conftest import PHOTOS

from pgjax import trees
from pgjax.config import to_dict
from pgjax.errors import UserError
from pgjax.evaluation.contact_sheet import draw_records
from pgjax.evaluation.evaluators import make_evaluator
from pgjax.evaluation.runner import evaluate
from pgjax.evaluation.store import gather_json
from pgjax.loading.model_context import open_model_context
from pgjax.loading.parameters import load_parameters
from pgjax.recipes import transfer

DATA = {"name": "jsonl", "fname": str(PHOTOS / "photos.jsonl")}


@pytest.fixture(scope="module")
def context():
    c = transfer(
        "test", variant="tiny", train=DATA, prompt="", target="", text_len=24, steps=1,
        batch_size=4, lr=1e-3,
        evals={
            "val": {"kind": "perplexity", "data": DATA, "batch_size": 5},
            "answers": {"kind": "answers", "data": DATA, "batch_size": 5, "max_new_tokens": 4},
        },
    )  # fmt: skip
    c.init = ""
    return open_model_context(c.to_dict())


@pytest.fixture(scope="module")
def params(context):
    return load_parameters(context, dict.fromkeys(context.shapes, "float32"))


def records():
    return [json.loads(line) for line in (PHOTOS / "photos.jsonl").read_text().splitlines()]


@functools.partial(jax.jit, static_argnums=0)
def forward(model, params, image, ids, mask_ar):
    variables = {"params": trees.unflatten(params)}
    hidden = model.apply(variables, image[None], ids[None], mask_ar[None])
    return model.apply(variables, hidden, method="logits")[0]


def logits(context, params, image, ids, num_prefix):
    """Full forward pass of one sequence, no cache: [T] ids -> [T,V].

    Whatever stands after it is not seen, so that one program does for all lengths.
    """
    padded = np.zeros(24, np.int32)
    padded[: len(ids)] = ids
    mask_ar = (np.arange(24) >= num_prefix).astype(np.int32)
    return np.asarray(forward(context.model, params, image, padded, mask_ar))[: len(ids)]


def prepared(context, record):
    pipe = context.pipeline("decode|resize(64, antialias=True)|value_range(-1, 1)|keep('image')")
    tok = context.tokenizer
    prefix = [*tok.encode(record["prefix"], bos=True), *tok.newline_ids]
    suffix = tok.encode(record["suffix"], eos=True)
    return pipe({"image": (PHOTOS / record["image"]).read_bytes()})["image"], prefix, suffix


def test_perplexity_is_the_mean_token_loss(context, params):
    result = make_evaluator("val", context.config.evals["val"], context).run(params)
    assert result.scores["examples"] == 12
    sums, counts = [], []
    for record in records()[:3]:
        image, prefix, suffix = prepared(context, record)
        out = logits(context, params, image, prefix + suffix, len(prefix))
        logp = np.asarray(jax.nn.log_softmax(out[len(prefix) - 1 : -1]))
        sums.append(-logp[np.arange(len(suffix)), suffix].sum())
        counts.append(len(suffix))
    for i in range(3):
        scores = result.records[i]["scores"]
        assert scores["_tokens"] == counts[i]
        assert scores["loss"] == pytest.approx(sums[i] / counts[i], rel=1e-5)
    total = sum(r["scores"]["_loss"] for r in result.records)
    tokens = sum(r["scores"]["_tokens"] for r in result.records)
    assert result.scores["perplexity"] == pytest.approx(np.exp(total / tokens), rel=1e-6)


def test_answers_are_greedy(context, params):
    result = make_evaluator("answers", context.config.evals["answers"], context).run(params)
    assert [r["index"] for r in result.records] == list(range(12))
    for record in result.records[:2]:
        image, prefix, _ = prepared(
            context, {**record, "image": records()[record["index"]]["image"]}
        )
        ids = list(prefix)
        for _ in range(4):
            ids.append(int(logits(context, params, image, ids, len(prefix))[-1].argmax()))
            if ids[-1] == context.tokenizer.eos_id:
                break
        assert record["prediction"] == context.tokenizer.decode(ids[len(prefix) :])
    assert result.scores["acc"] == np.mean([r["scores"]["acc"] for r in result.records])


def test_a_metric_of_the_corpus(context, params, monkeypatch):
    """It sees every record, with the objects in its answer."""
    spec = context.config.evals["answers"]
    spec = dataclasses.replace(spec, metric={"name": "mean_average_precision"})
    evaluator = make_evaluator("answers", spec, context)
    token = context.tokenizer.loc_id
    tokens = np.zeros((5, 12), np.int32)
    label = context.tokenizer.encode(" face")
    answer = [*map(token, (307, 287, 809, 778)), *label]
    tokens[:, : len(answer)] = answer

    def always_this(params, inputs, seed):
        return tokens, np.full(tokens.shape, np.log(0.5), np.float32)

    monkeypatch.setattr(evaluator, "_fn", always_this)
    result = evaluator.run(params)
    assert result.scores["mAP"] == pytest.approx(evaluator.metric(result.records)["mAP"])
    assert result.scores["AP50"] > 0 and "acc" not in result.scores
    assert result.records[0]["objects"] == [
        {
            "label": "face",
            "box": (307 / 1024, 287 / 1024, 809 / 1024, 778 / 1024),
            "score": pytest.approx(0.5),  # what is blank does not count
        }
    ]


def test_a_metric_of_the_corpus_scores_single_records(context, params, tmp_path):
    """They are stored, and are the same where a finished evaluation is run again."""
    spec = dataclasses.replace(context.config.evals["answers"], metric={"name": "cider"})
    for _ in range(2):
        scores = evaluate(context, params, {"captions": spec}, None, tmp_path)["captions"]
        records = [*map(json.loads, (tmp_path / "captions.jsonl").read_text().splitlines())]
        assert scores["examples"] == len(records)
        assert scores["cider"] == np.mean([r["scores"]["cider"] for r in records])


def test_runner_stores_predictions_and_scores(context, params, tmp_path):
    scores = evaluate(context, params, context.config.evals, ["answers"], tmp_path)
    assert json.loads((tmp_path / "scores.json").read_text()) == scores
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == list(range(12))
    evaluator = make_evaluator("answers", context.config.evals["answers"], context)
    sheet = draw_records(evaluator.part.source, lines[:4])
    assert min(sheet.size) > 200 and len(sheet.getcolors(1 << 20)) > 1000
    with pytest.raises(UserError, match="'nope'.* has .*'answers', 'val'"):
        evaluate(context, params, context.config.evals, ["nope"], tmp_path)


def test_specs_are_checked(context):
    spec = to_dict(context.config.evals["answers"])
    for bad, message in (
        ({"kind": "guess"}, "expected one of 'answers', 'perplexity'"),
        ({"batchsize": 3}, "the nearest is config.evals.answers.batch_size"),
        ({"metric": {"name": "exact"}}, "exact"),
        ({"sampler": "beem"}, "beem"),
        ({"pp": "decode|resise(3)"}, "resise"),
    ):
        with pytest.raises(UserError, match=message):
            make_evaluator("answers", {**spec, **bad}, context)
    with pytest.raises(UserError, match="data is missing"):
        make_evaluator("answers", {"kind": "answers"}, context)


def test_gather_json_of_one_process():
    assert gather_json({"a": [1, "é"]}) == [{"a": [1, "é"]}]
