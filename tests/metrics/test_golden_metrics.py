"""Every group of tests/golden/metrics.json: rows and scores that the reference evaluators gave.

Where pgjax differs on purpose, the test says so and checks what is different.
"""

import json

import numpy as np
import pytest
from conftest import GOLDEN

from pgjax.data.masks import paste_mask
from pgjax.inference.mask_codec import MaskCodec
from pgjax.metrics import get_metric
from pgjax.metrics.aggregate import Mean
from pgjax.metrics.anls import similarity
from pgjax.metrics.choices import answer_letter
from pgjax.metrics.counting import in_digits
from pgjax.metrics.ptb import ptb_tokenize
from pgjax.metrics.relaxed import is_close, number
from pgjax.metrics.vqa import clean_answer

REFERENCE = json.loads((GOLDEN / "metrics.json").read_text())


def mean(metric, pairs, **options):
    """Mean and counts of a per-example metric over (prediction, meta)."""
    metric, total = get_metric(metric, **options), Mean()
    for prediction, meta in pairs:
        total.add(metric(prediction, meta))
    return total.result(), total.counts()


def check(result, expected, names):
    """Compares scores by `names`, {ours: the reference's}."""
    for ours, theirs in names.items():
        assert result[ours] == pytest.approx(expected[theirs], abs=1e-12), ours


def test_every_group_is_tested():
    assert {
        "vqav2", "vqa", "chartqa", "pope", "tallyqa", "rsvqa", "science_qa", "coco_caption",
        "segmentation",
    } == REFERENCE.keys()  # fmt: skip


class TestVqaV2:
    group = REFERENCE["vqav2"]
    pairs = [(r["pred"], {"answers": r["gts"], "answer_type": r["type"]}) for r in group["rows"]]
    keys = ("acc", "acc/yesno", "acc/number", "acc/other")

    def check(self, pairs, expected):
        result, counts = mean("vqa_accuracy", pairs)
        for key in self.keys:
            assert result[key] == pytest.approx(expected[key], abs=1e-12)
        return {key: counts[key] for key in self.keys}

    @pytest.mark.parametrize("row", group["rows"], ids=lambda row: repr(row["pred"]))
    def test_row(self, row):
        result, _ = mean("vqa_accuracy", [(row["pred"], {"answers": row["gts"]})])
        assert result["acc"] == pytest.approx(row["acc"], abs=1e-12)
        text = row["pred"].replace("\n", " ").replace("\t", " ").strip()
        assert text == row["strip"] and clean_answer(text) == row["post"]
        # The reference cleans references up where they differ.
        if len(set(row["gts"])) > 1:
            assert sorted({clean_answer(a) for a in row["gts"]}) == row["gts_post"]

    def test_scores(self):
        expected = self.group["metrics"]
        counts = self.check(self.pairs, expected)
        assert counts == {key: expected[key.replace("acc", "num")] for key in self.keys}

    def test_padding(self):
        """Rows that only pad a batch never reach a metric."""
        expected = self.group["metrics_with_padding_mask_first20"]
        counts = self.check(self.pairs[:20], expected)
        assert counts["acc"] == expected["num"]

    def test_unlabelled(self):
        """It changes no score; the reference counts it in `num` all the same, we do not."""
        expected = self.group["metrics_with_one_unlabelled"]
        counts = self.check([*self.pairs, ("yes", {"answers": []})], expected)
        assert counts["acc"] == expected["num"] - 1 == len(self.pairs)


class TestVqa:
    single = REFERENCE["vqa"]["anls_rows"]
    several = REFERENCE["vqa"]["multi"]["rows"]
    # Ties at one half and white space are as in the script of the Robust Reading Competition.
    more = {"abcd abxy": 1 / 2, "half hxxf": 1 / 2, " trailing trailing": 1 / 9}

    @pytest.mark.parametrize("row", single, ids=lambda row: repr(row["pred"]))
    def test_anls(self, row):
        expected = row["anls"] + self.more.get(f"{row['pred']} {row['gt']}", 0)
        assert similarity(row["pred"], row["gt"]) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("row", several, ids=lambda row: repr(row["pred"]))
    def test_several_answers(self, row):
        pairs = [(row["pred"], {"answers": row["gts"]})]
        for lower, prefix in ((False, ""), (True, "lower_")):
            for name, options, key, theirs in (
                ("vqa_accuracy", {"leave_one_out": False}, "acc", "acc"),
                ("exact_match", {"strip": False}, "acc", "acc_any"),
                ("anls", {}, "anls", "anls"),
            ):
                result, _ = mean(name, pairs, lower=lower, **options)
                check(result, row, {key: prefix + theirs})

    @pytest.mark.parametrize(
        ("kind", "group", "rows", "lower"),
        [
            ("single", "metrics", slice(None), False),
            ("single", "metrics_lower", slice(None), True),
            ("single", "metrics_first10", slice(10), False),
            ("multi", "metrics", slice(None), False),
            ("multi", "metrics_lower", slice(None), True),
        ],
    )
    def test_scores(self, kind, group, rows, lower):
        rows = {"single": self.single, "multi": self.several}[kind][rows]
        pairs = [(r["pred"], {"answers": r.get("gts") or [r["gt"]]}) for r in rows]
        expected = dict(REFERENCE["vqa"][kind][group])
        assert len(pairs) == expected["num"]
        expected["anls"] += sum(self.more.get(f"{r['pred']} {r.get('gt')}", 0) for r in rows) / len(
            rows
        )
        exact, _ = mean("exact_match", pairs, lower=lower, strip=False)
        check(exact, expected, {"acc": "acc_any"})
        check(mean("anls", pairs, lower=lower)[0], expected, {"anls": "anls"})
        if kind == "multi":  # Of a single answer it takes equality for `acc`, too.
            simple, _ = mean("vqa_accuracy", pairs, lower=lower, leave_one_out=False)
            check(simple, expected, {"acc": "acc"})
        else:
            check(exact, expected, {"acc": "acc"})


class TestChartQa:
    rows = REFERENCE["chartqa"]["rows"]

    @pytest.mark.parametrize("row", rows, ids=lambda row: f"{row['pred']!r} {row['gt']!r}")
    def test_row(self, row):
        assert is_close(row["pred"], row["gt"]) == row["relaxed"]
        assert str(number(row["pred"])) == row["pred_float"]
        assert str(number(row["gt"])) == row["gt_float"]

    @pytest.mark.parametrize(("group", "lower"), [("metrics", False), ("metrics_lower", True)])
    def test_scores(self, group, lower):
        pairs = [(r["pred"], {"suffix": r["gt"]}) for r in self.rows]
        result, counts = mean("relaxed_accuracy", pairs, lower=lower)
        expected = REFERENCE["chartqa"][group]
        check(result, expected, {"acc": "relaxed_acc", "exact": "acc"})
        assert counts["acc"] == expected["num"]


class TestPope:
    group = REFERENCE["pope"]

    @pytest.mark.parametrize(
        ("name", "rows"), [("metrics", slice(None)), ("metrics_first15", slice(15))]
    )
    def test_scores(self, name, rows):
        rows = self.group["rows"][rows]
        records = [{"prediction": r["pred"], "suffix": r["gt"]} for r in rows]
        scores = get_metric("pope")(records)
        check(scores, self.group[name], {"acc": "acc", "valid": "valid_percent"})
        assert len(records) == self.group[name]["num"]
        for row, record in zip(rows, records, strict=True):
            assert record["scores"] == {"acc": row["acc"], "valid": row["valid_percent"]}

    def test_counts_that_the_reference_lacks(self):
        """Precision, recall, F1 and the share of yes, counted here one by one."""
        rows = [(r["pred"].lower(), r["gt"]) for r in self.group["rows"]]
        tp, fp = rows.count(("yes", "yes")), rows.count(("yes", "no"))
        fn = sum(g == "yes" and p != "yes" for p, g in rows)
        scores = get_metric("pope")([{"prediction": p, "suffix": g} for p, g in rows])
        assert scores["precision"] == tp / (tp + fp)
        assert scores["recall"] == tp / (tp + fn)
        assert scores["f1"] == pytest.approx(tp / (tp + (fp + fn) / 2))
        assert scores["yes_rate"] == (tp + fp) / len(rows)


class TestTallyQa:
    group = REFERENCE["tallyqa"]

    @pytest.mark.parametrize("row", group["rows"], ids=lambda row: f"{row['pred']!r} {row['gt']!r}")
    def test_row(self, row):
        result, _ = mean("tallyqa", [(row["pred"], {"suffix": row["gt"]})])
        assert result["acc"] == row["acc"]
        # It is the lower case in words that are no numbers, too, which changes no score.
        assert in_digits(row["pred"]) == row["pred_norm"].lower()

    @pytest.mark.parametrize(
        ("name", "metric", "rows"),
        [
            ("metrics", "tallyqa", slice(None)),
            ("metrics_first12", "tallyqa", slice(12)),
            ("metrics_no_issimple", "counting", slice(None)),
        ],
    )
    def test_scores(self, name, metric, rows):
        pairs = [
            (r["pred"], {"suffix": r["gt"], "issimple": r["issimple"]})
            for r in self.group["rows"][rows]
        ]
        result, counts = mean(metric, pairs)
        expected = dict(self.group[name])
        del result["valid"]
        assert result == pytest.approx({k: v for k, v in expected.items() if k[:3] == "acc"})
        for key in result:
            assert counts[key] == expected[key.replace("acc", "num")]

    def test_large_counts(self):
        """The reference stops at 15."""
        assert "count_16" in self.group["gt_above_15_raises"]
        assert mean("tallyqa", [("16", {"suffix": "16"})])[0]["acc/count_16"] == 1


class TestRsvqa:
    @pytest.mark.parametrize("kind", ["lr", "hr"])
    @pytest.mark.parametrize(("name", "lower"), [("metrics", False), ("metrics_lower", True)])
    def test_scores(self, kind, name, lower):
        rows, expected = REFERENCE["rsvqa"][kind]["rows"], REFERENCE["rsvqa"][kind][name]
        records = [
            {"prediction": r["pred"], "answers": r["gts"], "question_type": r["question_type"]}
            for r in rows
        ]
        scores = get_metric("accuracy_by_type", lower=lower)(records)
        types = {key: key.replace("/", "_") for key in scores if key.startswith("acc/")}
        assert len(types) == 4
        check(scores, expected, {**types, "acc": "acc_avg", "acc_all": "acc_any"})
        others = {"lr": ["count", "rural_urban"], "hr": ["count", "area"]}[kind]
        scores = get_metric("accuracy_by_type", lower=lower, exclude=others)(records)
        check(scores, expected, {**types, "acc": "acc_avg_nonum"})
        pairs = [(r["prediction"], r) for r in records]
        check(mean("anls", pairs, lower=lower)[0], expected, {"anls": "anls"})
        simple, _ = mean("vqa_accuracy", pairs, lower=lower, leave_one_out=False)
        check(simple, expected, {"acc": "acc"})
        assert len(records) == expected["num"]


class TestScienceQa:
    rows = REFERENCE["science_qa"]["rows"]

    @pytest.mark.parametrize("row", rows, ids=lambda row: f"{row['pred']!r}")
    def test_row(self, row):
        assert (answer_letter(row["pred"]) or "failed") == row["pred_parsed"]
        assert (answer_letter(row["gt"]) or "failed") == row["gt_parsed"]
        result, _ = mean("science_qa", [(row["pred"], {"suffix": row["gt"]})])
        # For the reference two texts without an answer agree.
        unreadable = row["pred_parsed"] == row["gt_parsed"] == "failed"
        assert result["acc"] == (0.0 if unreadable else row["acc"])

    def test_scores(self):
        result, counts = mean("science_qa", [(r["pred"], {"suffix": r["gt"]}) for r in self.rows])
        expected = REFERENCE["science_qa"]["metrics"]
        unreadable = sum(r["pred_parsed"] == r["gt_parsed"] == "failed" for r in self.rows)
        assert unreadable == 1
        assert result["acc"] == pytest.approx(expected["acc"] - unreadable / expected["num"])
        assert 1 - result["parsed"] == pytest.approx(expected["parsefail"])
        assert counts["acc"] == expected["num"]


class TestCaptions:
    group = REFERENCE["coco_caption"]

    def records(self):
        return [{"prediction": r["pred"], "answers": r["gts"]} for r in self.group["rows"]]

    def test_tokens(self):
        rows = self.group["rows"]
        assert ptb_tokenize([r["pred"] for r in rows]) == [r["pred_tok"] for r in rows]
        references = [text for r in rows for text in r["gts"]]
        assert ptb_tokenize(references) == [text for r in rows for text in r["gts_tok"]]
        ptb = self.group["ptb"]
        assert ptb_tokenize([r["text"] for r in ptb]) == [r["tok"] for r in ptb]

    def test_scores(self):
        records, expected = self.records(), self.group["metrics"]
        scores = get_metric("cider", bleu=True)(records)
        check(scores, expected, {"cider": "cider"})
        bleu = [scores[f"bleu{n}"] for n in (1, 2, 3, 4)]
        assert bleu == pytest.approx(expected["bleu-4"], abs=1e-12)
        single = [record["scores"]["cider"] for record in records]
        assert single == pytest.approx([r["cider"] for r in self.group["rows"]], abs=1e-12)

    def test_rouge(self):
        for scores in (
            get_metric("coco_caption", metrics=("rouge_l",))(self.records()),
            get_metric("cider", rouge=True)(self.records()),
        ):
            check(scores, self.group["metrics"], {"rouge_l": "rouge"})

    def test_scores_of_words_split_at_spaces(self):
        records, expected = self.records(), self.group["cider_lower_split_only"]
        scores = get_metric("cider", tokenizer="split")(records)
        check(scores, expected, {"cider": "score"})
        single = [record["scores"]["cider"] for record in records]
        assert single == pytest.approx(expected["per"], abs=1e-12)


def test_segmentation():
    group = REFERENCE["segmentation"]
    with np.load(GOLDEN / "seg.npz") as arrays:
        seg = dict(arrays)
    with np.load(GOLDEN / "vae.npz") as arrays:
        codec = MaskCodec(dict(arrays))
    metric = get_metric(
        "segmentation", draw=lambda codes, box, size: paste_mask(codec.decode(codes), box, size)
    )
    total = Mean()
    for i, text in enumerate(json.loads(str(seg["eval/pred_strings_json"]))):
        kind = "m2s" if f"m2s/mask/{i}:packed" in seg else "eval"
        shape = tuple(seg[f"mask_shape/{i}"])
        mask = np.unpackbits(seg[f"{kind}/mask/{i}:packed"])[: shape[0] * shape[1]].reshape(shape)
        scores = metric(text, {"mask": mask, "boxes": [seg[f"{kind}/bbox/{i}"]]})
        assert scores["miou"] == pytest.approx(group["per_example_iou"][i], abs=1e-9)
        assert scores["boxacc/0.5"] == seg["eval/per_example_boxacc0.5"][i]
        assert scores["boxacc/0.75"] == seg["eval/per_example_boxacc0.75"][i]
        assert scores["valid"] == 1 - seg["eval/per_example_invalid"][i]
        total.add(scores)
    expected = group["metrics"]
    check(total.result(), expected, {k: k for k in ("miou", "boxacc/0.5", "boxacc/0.75")})
    assert 1 - total.result()["valid"] == pytest.approx(expected["invalid"] / expected["total"])
