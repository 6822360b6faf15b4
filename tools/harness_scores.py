"""Compares the scorers of lmms-eval and VLMEvalKit with pgjax's metrics.

    python tools/harness_scores.py --count 3000

Runs where the two are installed, on the answers of `tools/official_scores.py`, whose comparison
with the evaluators of the benchmarks' owners says that pgjax's metrics are theirs. Each answer is
scored by the harness's own function, as the harness calls it. Prints a Markdown table: how many
scores are equal, the means of both, and examples that are not.
"""

import argparse
import contextlib
import dataclasses
import io
import os
import pathlib
import random
import sys
import tempfile
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from official_scores import Row, each, make_rows, same

from pgjax.metrics import get_metric

Scores = Callable[[Sequence[Row]], list[Any]]


@dataclasses.dataclass
class Scorer:
    """A benchmark's scorer in a harness beside pgjax's metric.

    Attributes:
      name: the harness and its name of the benchmark.
      theirs: the harness's scores of rows; one for all of them where it has no others.
      metric: pgjax's, for the table.
      ours: pgjax's scores.
      references: how many each question has.
      rows: what makes the rows, of (count, references, seed).
    """

    name: str
    theirs: Scores
    metric: str
    ours: Scores
    references: int = 1
    rows: Callable[[int, int, int], list[Row]] = lambda *args: texts(*args)


def corpus(metric: str, key: str, **options: Any) -> Scores:
    """The scores of rows by a metric of pgjax that takes all records."""

    def scores(rows: Sequence[Row]) -> list[Any]:
        records = [{"prediction": p, "answers": refs} for p, refs in rows]
        get_metric(metric, **options)(records)
        return [record["scores"][key] for record in records]

    return scores


def whole(metric: str, key: str, **options: Any) -> Scores:
    """The one score of all rows by a metric of pgjax that takes all records."""

    def score(rows: Sequence[Row]) -> list[Any]:
        records = [{"prediction": p, "answers": refs} for p, refs in rows]
        return [get_metric(metric, **options)(records)[key]]

    return score


def texts(count: int, references: int, seed: int) -> list[Row]:
    """Adversarial answers without white space at their ends and carriage returns, as data are."""

    def plain(text: str) -> str:
        return text.replace("\r", "").strip()

    rows = make_rows(count, references, seed)
    return [(plain(p), [*map(plain, refs)]) for p, refs in rows]


def yes_no(count: int, references: int, seed: int) -> list[Row]:
    """Answers to POPE's questions."""
    rng = random.Random(seed)
    said = ["yes", "no", "Yes", "No", "yes.", "No.", "no, there is no dog", "Yes, a dog",
            "nope", "there is", "not sure", "yes or no", "", "unknown", "NO", "0", "1"]  # fmt: skip
    return [(rng.choice(said), [rng.choice(["yes", "no"])]) for _ in range(count)]


def numbers(count: int, references: int, seed: int) -> list[Row]:
    """Answers to questions for a number."""
    rng = random.Random(seed)
    said = ["{}", "{}", "{}.", "1{}", "{}0", "{} dogs", "about {}", "{}.0", "-{}"]
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]

    def one(n: int) -> str:
        return rng.choice([*said, words[n]]).format(n)

    values = [(rng.randrange(11), rng.randrange(11)) for _ in range(count)]
    return [(one(n if rng.random() < 0.7 else m), [str(n)]) for n, m in values]


def letters(count: int, references: int, seed: int) -> list[Row]:
    """Answers to ScienceQA, in the form that the checkpoints give them."""
    rng = random.Random(seed)
    said = ["The answer is {}.", "{}", "{}.", "({})", "The answer is {}", "Answer: {}", "red {}"]
    return [
        (rng.choice(said).format(rng.choice("ABCD")), [f"The answer is {rng.choice('ABCD')}."])
        for _ in range(count)
    ]


def captions(count: int, references: int, seed: int) -> list[Row]:
    """Captions as people write them: with capitals, commas and full stops."""
    rng = random.Random(seed)
    nouns = ["dog", "cat", "horse", "man", "woman", "bus", "street", "table", "plate", "river"]
    ends = [".", ".", "", "!", " ."]

    def text() -> str:
        a, b = rng.sample(nouns, 2)
        start = rng.choice(["A", "a", "The", "There is a", "Two"])
        return f"{start} {a}{rng.choice([',', ' and', ' near'])} a {b}{rng.choice(ends)}"

    rows = []
    for _ in range(min(count, 500)):
        base = text()
        refs = [base if rng.random() < 0.5 else text() for _ in range(references)]
        rows.append((rng.choice([base, base.lower(), base.strip(". !"), text()]), refs))
    return rows


def one_by_one(function: Callable[[str, list[str]], Any]) -> Scores:
    """Scores one answer at a time; the references are copies, since some scorers change them."""
    return lambda rows: [function(prediction, list(refs)) for prediction, refs in rows]


def lmms_eval() -> list[Scorer]:
    """lmms-eval's scorers."""
    from lmms_eval.api.metrics import anls, exact_match_fn
    from lmms_eval.tasks.chartqa.utils import chartqa_process_results
    from lmms_eval.tasks.coco_cap.utils import coco_bleu4, coco_cider
    from lmms_eval.tasks.countbenchqa.utils import countbenchqa_process_results
    from lmms_eval.tasks.ok_vqa.utils import ok_vqa_process_results
    from lmms_eval.tasks.pope.utils import pope_process_results
    from lmms_eval.tasks.scienceqa.utils import sqa_process_results
    from lmms_eval.tasks.textvqa.utils import textvqa_process_results
    from lmms_eval.tasks.vizwiz_vqa.utils import vizwiz_vqa_process_results
    from lmms_eval.tasks.vqav2.utils import vqav2_process_results

    def annotated(refs: list[str]) -> dict[str, Any]:
        answers = [{"answer": a, "answer_id": i} for i, a in enumerate(refs)]
        return {"question_id": 0, "answers": answers}

    def text(process: Callable) -> Scores:
        return one_by_one(
            lambda p, refs: float(process({"question_id": 0, "answers": refs}, [p])["exact_match"])
        )

    def science(p: str, refs: list[str]) -> float:
        doc = {"choices": list("wxyz"), "answer": "ABCD".index(refs[0][-2])}
        return sqa_process_results(doc, [p])["exact_match"]

    def caption(function: Callable) -> Scores:
        def score(rows: Sequence[Row]) -> list[float]:
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
                results = [
                    {"answer": refs, "pred": p, "image_id": i, "id": i}
                    for i, (p, refs) in enumerate(rows)
                ]
                return [float(function(results, types.SimpleNamespace(output_path=folder)))]

        return score

    relaxed = {"lower": True}
    return [
        Scorer("lmms-eval vqav2_val",
               one_by_one(lambda p, refs: float(
                   vqav2_process_results(annotated(refs), [p])["exact_match"])),
               "vqa_accuracy: acc", each("vqa_accuracy", "acc"), 10),
        Scorer("lmms-eval textvqa_val", text(textvqa_process_results),
               "textvqa: acc_textvqa", each("textvqa", "acc_textvqa"), 10),
        Scorer("lmms-eval ok_vqa_val2014", text(ok_vqa_process_results),
               "vqa_accuracy: acc", each("vqa_accuracy", "acc", leave_one_out=False), 10),
        Scorer("lmms-eval vizwiz_vqa_val", text(vizwiz_vqa_process_results),
               "vqa_accuracy: acc", each("vqa_accuracy", "acc", leave_one_out=False), 10),
        Scorer("lmms-eval docvqa_val",
               one_by_one(lambda p, refs: float(anls(refs, [p])["anls"])),
               "anls, lower", each("anls", "anls", lower=True), 3),
        Scorer("lmms-eval chartqa",
               one_by_one(lambda p, refs: chartqa_process_results(
                   {"answer": refs[0], "type": "human_test"}, [p])["relaxed_overall"]),
               "relaxed_accuracy, lower", each("relaxed_accuracy", "acc", **relaxed)),
        Scorer("lmms-eval gqa",
               one_by_one(lambda p, refs: float(exact_match_fn(
                   references=refs, predictions=[p], ignore_case=True, ignore_punctuation=True,
               )["exact_match"])), "exact_match", each("exact_match", "acc")),
        Scorer("lmms-eval pope",
               one_by_one(lambda p, refs: pope_process_results(
                   {"answer": refs[0], "question_id": 0}, [p])["pope_accuracy"]["score"]),
               "pope: acc", corpus("pope", "acc"), rows=yes_no),
        Scorer("lmms-eval countbenchqa",
               one_by_one(lambda p, refs: countbenchqa_process_results(
                   {"number": refs[0]}, [p])["acc"]),
               "counting: acc", each("counting", "acc"), rows=numbers),
        Scorer("lmms-eval scienceqa", one_by_one(science), "science_qa: acc",
               each("science_qa", "acc"), rows=letters),
        Scorer("lmms-eval coco CIDEr", caption(coco_cider), "cider", whole("cider", "cider"), 5,
               captions),
        Scorer("lmms-eval coco BLEU-4", caption(coco_bleu4), "cider: bleu4",
               whole("cider", "bleu4", bleu=True), 5, captions),
    ]  # fmt: skip


def vlmevalkit() -> list[Scorer]:
    """VLMEvalKit's scorers, through the files in which it keeps predictions."""
    import pandas as pd
    from vlmeval.dataset.image_caption import ImageCaptionDataset
    from vlmeval.dataset.image_vqa import CountBenchQA, ImageVQADataset, TallyQA, VizWiz
    from vlmeval.dataset.utils.vqa_eval import hit_calculate
    from vlmeval.dataset.utils.yorn import YOrN_Extraction
    from vlmeval.smp import dump, load
    from vlmeval.utils.matching_util import can_infer

    def written(cls: type, name: str, rows: Sequence[Row], **columns: Any) -> tuple[Any, Any]:
        """What `evaluate` returns, and the folder's table of results."""
        frame = pd.DataFrame(
            {"index": range(len(rows)), "prediction": [p for p, _ in rows], **columns}
        )
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            path = os.path.join(folder, f"m_{name}.xlsx")
            dump(frame, path)
            data = cls.__new__(cls)
            data.dataset_name = name
            found = data.evaluate(path)
            details = os.path.join(folder, f"m_{name}_results.xlsx")
            return found, load(details) if os.path.exists(details) else None

    def vqa(name: str, *, one: bool = False) -> Scores:
        def scores(rows: Sequence[Row]) -> list[float]:
            given = [refs[0] if one else repr(refs) for _, refs in rows]
            _, table = written(ImageVQADataset, name, rows, answer=given)
            match = [{"match": eval(text)} for text in table["eval_match"]]
            return [float(score) for score in hit_calculate(match, name)]

        return scores

    def caption(key: str, place: int | None = None) -> Scores:
        def score(rows: Sequence[Row]) -> list[float]:
            refs = [repr(refs) for _, refs in rows]
            found, _ = written(ImageCaptionDataset, "COCO_VAL", rows, answer=refs)
            value = found[key] if place is None else found[key][place]
            return [float(value) / 100]

        return score

    def mean(cls: type, name: str, key: str, scale: float) -> Scores:
        def score(rows: Sequence[Row]) -> list[float]:
            answers = {"answer": [refs[0] for _, refs in rows]}
            answers["answers"] = [repr(refs) for _, refs in rows]
            found, _ = written(cls, name, rows, **answers)
            return [float(np.asarray(found[key]).reshape(-1)[0]) / scale]

        return score

    def ours_mean(scores: Scores) -> Scores:
        return lambda rows: [float(np.mean(scores(rows)))]

    def science(rows: Sequence[Row]) -> list[float]:
        options = dict(zip("ABCD", ("wxy", "xyz", "zwx", "ywz"), strict=True))
        found = [can_infer(p, dict(options)) for p, _ in rows]
        return [float(letter == refs[0][-2]) for letter, (_, refs) in zip(found, rows, strict=True)]

    def pope(rows: Sequence[Row]) -> list[float]:
        return [float(YOrN_Extraction(p) == refs[0].capitalize()) for p, refs in rows]

    return [
        Scorer("VLMEvalKit TextVQA_VAL", vqa("TextVQA_VAL"), "textvqa: acc_textvqa",
               each("textvqa", "acc_textvqa"), 10),
        Scorer("VLMEvalKit DocVQA_VAL", vqa("DocVQA_VAL"), "anls, lower",
               each("anls", "anls", lower=True), 3),
        Scorer("VLMEvalKit ChartQA_TEST", vqa("ChartQA_TEST", one=True),
               "relaxed_accuracy, lower", each("relaxed_accuracy", "acc", lower=True)),
        Scorer("VLMEvalKit GQA, OCRVQA", vqa("GQA_TestDev_Balanced", one=True),
               "exact_match, lower", each("exact_match", "acc", lower=True)),
        Scorer("VLMEvalKit VizWiz", mean(VizWiz, "VizWiz", "Overall", 100), "vqa_accuracy: acc",
               ours_mean(each("vqa_accuracy", "acc", leave_one_out=False)), 10),
        Scorer("VLMEvalKit POPE", pope, "pope: acc", corpus("pope", "acc"), rows=yes_no),
        Scorer("VLMEvalKit CountBenchQA", mean(CountBenchQA, "CountBenchQA", "accuracy", 100),
               "counting: acc", ours_mean(each("counting", "acc")), rows=numbers),
        Scorer("VLMEvalKit TallyQA", mean(TallyQA, "TallyQA", "TallyQA", 1), "counting: acc",
               ours_mean(each("counting", "acc")), rows=numbers),
        Scorer("VLMEvalKit ScienceQA", science, "science_qa: acc", each("science_qa", "acc"),
               rows=letters),
        Scorer("VLMEvalKit COCO CIDEr", caption("CIDEr"), "cider", whole("cider", "cider"), 5,
               captions),
        Scorer("VLMEvalKit COCO BLEU-4", caption("Bleu", 3), "cider: bleu4",
               whole("cider", "bleu4", bleu=True), 5, captions),
    ]  # fmt: skip


def main() -> None:
    """Compares the scorers of the harnesses that are installed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=3000, help="answers of each scorer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--examples", type=int, default=2, help="answers shown of each difference")
    parser.add_argument("--only", default="", help="part of the names")
    args = parser.parse_args()
    print("| scorer | pgjax | answers | equal | mean there | mean here | such as |")
    print("|---|---|---|---|---|---|---|")
    for harness in (lmms_eval, vlmevalkit):
        try:
            scorers = harness()
        except ImportError as e:
            print(f"{harness.__name__} is left out: {e}", file=sys.stderr)
            continue
        for scorer in scorers:
            if args.only not in scorer.name:
                continue
            rows = scorer.rows(args.count, scorer.references, args.seed)
            theirs, ours = scorer.theirs(rows), scorer.ours(rows)
            differ = [
                i for i, (a, b) in enumerate(zip(theirs, ours, strict=True))
                if not same(float(a), float(b))
            ]  # fmt: skip
            shown: dict[str, None] = {}
            for i in sorted(differ, key=lambda i: len(str(rows[i]))) if len(theirs) > 1 else ():
                if rows[i][0]:
                    shown[f"{rows[i]!r}: {theirs[i]:.3g}, here {ours[i]:.3g}"] = None
            cells = [
                scorer.name, scorer.metric, f"{len(rows):,}",
                f"{len(ours) - len(differ):,} of {len(ours):,}", f"{np.mean(theirs):.4f}",
                f"{np.mean(ours):.4f}", "; ".join([*shown][: args.examples]),
            ]  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
