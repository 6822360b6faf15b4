"""Checks of metrics, by the scores that the reference's evaluators give to the same answers.

pgjax differs on purpose in three cases, and the checks take that into account: two ScienceQA texts
without a letter are not equal, questions without references are skipped, and ANLS is that of the
script of the Robust Reading Competition.
"""

import functools
import json
from collections.abc import Iterator, Sequence

import numpy as np

from golden_checks.common import Check, Golden
from golden_checks.segmentation import read_mask
from pgjax.conformance.differences import EXACT, diff
from pgjax.data.masks import paste_mask
from pgjax.inference.mask_codec import MaskCodec
from pgjax.metrics import get_metric
from pgjax.metrics.aggregate import Mean
from pgjax.metrics.ptb import ptb_tokenize

SCORES = 1e-9

# What that script gives more: for ties at one half, and for white space.
_RRC = {("abcd", "abxy"): 1 / 2, ("half", "hxxf"): 1 / 2, (" trailing", "trailing"): 1 / 9}


def metrics(g: Golden) -> Iterator[Check]:
    """Compares the scores of every group in metrics.json."""
    golden = json.loads((g.folder / "metrics.json").read_text())
    yield from _questions(golden)
    yield from _captions(golden["coco_caption"])
    yield "masks", _masks(g, golden["segmentation"]["metrics"]), SCORES


def _mean(metric: str, rows: Sequence[dict], meta: Sequence[dict], **options) -> dict[str, float]:
    """Returns the means of a per-example metric, and the numbers of examples as `num…`."""
    score, total = get_metric(metric, **options), Mean()
    for row, each in zip(rows, meta, strict=True):
        total.add(score(row["pred"], each))
    counts = {key.replace("acc", "num"): n for key, n in total.counts().items()}
    return {**counts, **total.result()}


def _worst(got: dict, want: dict, names: dict[str, str] | None = None) -> float:
    """Returns the largest difference of scores; `names` maps pgjax's to the reference's."""
    names = names or {key: key for key in want}
    return max(abs(got.get(ours, np.inf) - want[theirs]) for ours, theirs in names.items())


def _questions(golden: dict) -> Iterator[Check]:
    group = golden["vqav2"]
    meta = [{"answers": r["gts"], "answer_type": r["type"]} for r in group["rows"]]
    vqa = functools.partial(_mean, "vqa_accuracy")
    first = vqa(group["rows"][:20], meta[:20])
    yield "vqav2", _worst(vqa(group["rows"], meta), group["metrics"]), SCORES
    yield "vqav2, padded", _worst(first, group["metrics_with_padding_mask_first20"]), SCORES
    got = vqa([*group["rows"], {"pred": "x"}], [*meta, {"answers": []}])
    got["num"] += 1  # The reference counts the unlabelled question.
    yield "vqav2, unlabelled", _worst(got, group["metrics_with_one_unlabelled"]), SCORES

    several = golden["vqa"]["multi"]
    single = {**golden["vqa"]["single"], "rows": golden["vqa"]["anls_rows"]}
    for name, group in (("several answers", several), ("one answer", single)):
        for key in (k for k in group if k.startswith("metrics")):
            rows = group["rows"][: group[key]["num"]]
            meta = [{"answers": r.get("gts", [r.get("gt")])} for r in rows]
            lower = key == "metrics_lower"
            exact = _mean("exact_match", rows, meta, lower=lower, strip=False)
            acc = vqa(rows, meta, lower=lower, leave_one_out=False) if group is several else exact
            anls = _mean("anls", rows, meta, lower=lower)
            more = sum(_RRC.get((r["pred"], r.get("gt")), 0) for r in rows) / len(rows)
            anls["anls"] -= more
            got = {**anls, "acc_any": exact["acc"], "acc": acc["acc"], "num": acc["num"]}
            yield f"{name}, {key}", _worst(got, group[key]), SCORES

    group = golden["chartqa"]
    meta = [{"suffix": r["gt"]} for r in group["rows"]]
    for key in ("metrics", "metrics_lower"):
        got = _mean("relaxed_accuracy", group["rows"], meta, lower=key == "metrics_lower")
        names = {"acc": "relaxed_acc", "exact": "acc", "num": "num"}
        yield f"chartqa, {key}", _worst(got, group[key], names), SCORES

    group = golden["tallyqa"]
    for key in ("metrics", "metrics_no_issimple", "metrics_first12"):
        rows = group["rows"][: group[key]["num"]]
        meta = [{"suffix": r["gt"], "issimple": r["issimple"]} for r in rows]
        got = _mean("counting" if key == "metrics_no_issimple" else "tallyqa", rows, meta)
        yield f"tallyqa, {key}", _worst(got, group[key]), SCORES

    group = golden["pope"]
    for key in ("metrics", "metrics_first15"):
        rows = group["rows"][: group[key]["num"]]
        got = get_metric("pope")([{"prediction": r["pred"], "suffix": r["gt"]} for r in rows])
        names = {"acc": "acc", "valid": "valid_percent"}
        yield f"pope, {key}", _worst(got, group[key], names), SCORES

    group = golden["science_qa"]
    got = _mean("science_qa", group["rows"], [{"suffix": r["gt"]} for r in group["rows"]])
    failed = [r for r in group["rows"] if r["pred_parsed"] == r["gt_parsed"] == "failed"]
    got = {**got, "acc": got["acc"] + len(failed) / got["num"], "parsefail": 1 - got["parsed"]}
    yield "science_qa", _worst(got, group["metrics"]), SCORES

    for kind, others in (("lr", ("count", "rural_urban")), ("hr", ("count", "area"))):
        group = golden["rsvqa"][kind]
        records = [
            {"prediction": r["pred"], "answers": r["gts"], "question_type": r["question_type"]}
            for r in group["rows"]
        ]
        for key in ("metrics", "metrics_lower"):
            lower = key == "metrics_lower"
            means = get_metric("accuracy_by_type", lower=lower)(records)
            got = {name.replace("/", "_"): value for name, value in means.items()}
            got |= {"acc_avg": means["acc"], "acc_any": means["acc_all"]}
            few = get_metric("accuracy_by_type", lower=lower, exclude=others)(records)
            got["acc_avg_nonum"] = few["acc"]
            got |= _mean("anls", group["rows"], records, lower=lower)
            got |= vqa(group["rows"], records, lower=lower, leave_one_out=False)
            yield f"rsvqa {kind}, {key}", _worst(got, group[key]), SCORES


def _captions(group: dict) -> Iterator[Check]:
    rows = group["rows"]
    wrong = sum(
        got != want
        for captions, tokens in (
            ([r["pred"] for r in rows], [r["pred_tok"] for r in rows]),
            ([t for r in rows for t in r["gts"]], [t for r in rows for t in r["gts_tok"]]),
            ([r["text"] for r in group["ptb"]], [r["tok"] for r in group["ptb"]]),
        )
        for got, want in zip(ptb_tokenize(captions), tokens, strict=True)
    )
    yield "words of captions", float(wrong), EXACT
    for name, tokenizer, total, single in (
        ("ptb", "ptb", group["metrics"]["cider"], [r["cider"] for r in rows]),
        ("split", "split", *group["cider_lower_split_only"].values()),
    ):
        records = [{"prediction": r["pred"], "answers": r["gts"]} for r in rows]
        got = get_metric("cider", tokenizer=tokenizer, bleu=True)(records)
        each = [record["scores"]["cider"] for record in records]
        yield f"cider, {name}", diff([got["cider"], *each], [total, *single]), SCORES
        if name == "ptb":
            bleu = [got[f"bleu{n}"] for n in (1, 2, 3, 4)]
            yield "bleu", diff(bleu, group["metrics"]["bleu-4"]), SCORES


def _masks(g: Golden, want: dict) -> float:
    seg = g.load("seg.npz")
    codec = MaskCodec(g.load("vae.npz"))

    def draw(codes, box, size):
        return paste_mask(codec.decode(codes), box, size)

    metric, total = get_metric("segmentation", draw=draw), Mean()
    for i, text in enumerate(json.loads(str(seg["eval/pred_strings_json"]))):
        box = seg[f"m2s/bbox/{i}" if f"m2s/bbox/{i}" in seg else f"eval/bbox/{i}"]
        total.add(metric(text, {"mask": read_mask(seg, i), "boxes": [box]}))
    got = total.result()
    invalid = abs((1 - got["valid"]) * want["total"] - want["invalid"])
    return max(invalid, *(abs(got[k] - want[k]) for k in ("miou", "boxacc/0.5", "boxacc/0.75")))
