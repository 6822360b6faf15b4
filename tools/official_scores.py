"""Compares pgjax's metrics with the official evaluators, on thousands of adversarial answers.

    python tools/official_scores.py --vqa VQA/…/vqaEval.py --textvqa mmf/…/m4c_evaluators.py \\
        --rrc infographicsvqa_eval.py --aokvqa aokvqa/evaluation/eval_predictions.py \\
        --relaxed pix2struct/metrics.py --pope POPE/evaluate.py --science_qa models/run_gpt3.py \\
        --activitynet activitynet-qa/evaluation/eval.py --masks LAVT-RIS/test.py --captions

Nothing of the official code is part of pgjax: each flag names the file in a folder of yours, whose
functions are run as they are (print statements of Python 2 apart). `--captions` needs
`pip install pycocoevalcap` and Java. Prints a Markdown table, and exits with 1 if an answer is
scored otherwise for a reason that is not known. `--store FILE` keeps some of the answers with their
official scores, for tests/metrics/test_official_scores.py.
"""

import argparse
import ast
import contextlib
import dataclasses
import hashlib
import importlib
import io
import json
import pathlib
import random
import re
import sys
import tempfile
import types
from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from pgjax.metrics import get_metric
from pgjax.metrics.captions import tokenized
from pgjax.metrics.choices import answer_letter
from pgjax.metrics.ptb import ptb_tokenize

WORDS = """a an the A The red Bus t-shirt nokia nokia. LG yes Yes yes. no No not none two Ten 3 -3
+3 3.0 .5 5. 2.5 1,000 1,234,567 1e3 50% 50.0% % $3.50 £2 10:30 3/4 U.S. st. it's Levi's 's dont
cant couldnt've y'all'll o'clock & # ' " ( ) [x] {y} = + \\ _ - > < @ ` , ? ! ; / . .. … ß İ ﬁ é
ñ 日本 東京, كتاب ٣ ٣.٥ ² ½ Ⅷ 😀 nan inf -inf 0 0.0 00 A. B The answer is C. D
"""
PIECES = [*WORDS.split(), "\u200b", "\u00a0", "\u3000"]
SPACES = [" ", " ", " ", "", "  ", "\n", "\t", "\r\n"]
STORED = 60  # of each metric

Row = tuple[str, list[str]]  # a prediction, and its references


def make_rows(count: int, references: int, seed: int) -> list[Row]:
    """Draws predictions and references, which are often alike but for what evaluators undo."""
    rng = random.Random(seed)

    def text() -> str:
        words = rng.choices(PIECES, k=rng.choice([0, 1, 1, 1, 2, 2, 3, 5, 40]))
        return "".join(word + rng.choice(SPACES) for word in words)

    def changed(t: str) -> str:
        swap = rng.randrange(len(t)) if t else 0
        return rng.choice([
            t, t, t, t.lower(), t.upper(), t.strip(), t.strip(" ."), " ".join(t.split()),
            t.replace("-", " "), t.replace(",", ""), t.replace(" ", ""), f"the {t}", f"{t}.", t * 2,
            t[:swap] + t[swap + 1 :], t[: len(t) // 2], t[::-1], text(), number(t),
        ])  # fmt: skip

    def number(t: str) -> str:
        try:
            return f"{float(t) * rng.choice([0.95, 1, 1.05, 1.06, -1]):g}"
        except ValueError:
            return str(rng.randint(-20, 2000))

    rows = []
    for _ in range(count):
        base = text()
        answers = [changed(base) if rng.random() < 0.6 else base for _ in range(references)]
        rows.append((changed(base), [base] * references if rng.random() < 0.2 else answers))
    return rows


def functions(path: pathlib.Path, *names: str, **given: Any) -> types.SimpleNamespace:
    """Runs definitions of a file, and nothing else of it: functions, classes and constants.

    Args:
      path: of the official file.
      names: of the definitions.
      **given: what they refer to beside those.
    """
    source = re.sub(r'print (".*")', r"print(\1)", path.read_text())
    tree = ast.parse(source.expandtabs(8))
    found = [
        node
        for node in tree.body
        if getattr(node, "name", None) in names
        or (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) in names)
    ]
    space = {"re": re, "json": json, "sys": sys, "np": np, **given}
    exec(compile(ast.Module(found, []), str(path), "exec"), space)
    return types.SimpleNamespace(**{name: space[name] for name in names})


@dataclasses.dataclass
class Comparison:
    """A metric beside its official evaluator.

    Attributes:
      name: of the metric and its options.
      official: the scores of rows by the official code.
      ours: those by pgjax.
      references: how many each question has.
      known: reasons for which scores differ, and which rows they concern.
    """

    name: str
    official: Callable[[Sequence[Row]], list[Any]]
    ours: Callable[[Sequence[Row]], list[Any]]
    references: int = 1
    known: dict[str, Callable[[str, list[str]], bool]] = dataclasses.field(default_factory=dict)


def each(metric: str, key: str, **options: Any) -> Callable[[Sequence[Row]], list[Any]]:
    """The scores by a metric of pgjax that takes one example at a time."""
    score = get_metric(metric, **options)
    return lambda rows: [score(prediction, {"answers": refs})[key] for prediction, refs in rows]


def vqa(path: pathlib.Path) -> Comparison:
    """VQA v2: github.com/GT-Vision-Lab/VQA."""
    evaluator = functions(path, "VQAEval").VQAEval

    def official(rows: Sequence[Row]) -> list[float]:
        questions, results = types.SimpleNamespace(), types.SimpleNamespace()
        questions.getQuesIds = lambda: range(len(rows))
        questions.qa = {
            i: {
                "answers": [{"answer": a, "answer_id": k} for k, a in enumerate(refs)],
                "question_type": "",
                "answer_type": "",
            }
            for i, (_, refs) in enumerate(rows)
        }
        results.qa = {i: {"answer": prediction} for i, (prediction, _) in enumerate(rows)}
        run = evaluator(questions, results, n=12)
        with contextlib.redirect_stdout(io.StringIO()):
            run.evaluate()
        return [run.evalQA[i] / 100 for i in range(len(rows))]

    return Comparison("vqa_accuracy", official, each("vqa_accuracy", "acc"), 10)


def textvqa(path: pathlib.Path) -> Comparison:
    """TextVQA: github.com/facebookresearch/mmf."""
    names = ("EvalAIAnswerProcessor", "TextVQAAccuracyEvaluator")
    run = functions(path, *names).TextVQAAccuracyEvaluator()

    def official(rows: Sequence[Row]) -> list[float]:
        return [run.eval_pred_list([{"pred_answer": p, "gt_answers": r}]) for p, r in rows]

    return Comparison("textvqa", official, each("textvqa", "acc_textvqa"), 10)


def rrc(path: pathlib.Path) -> Comparison:
    """DocVQA and InfoVQA: the script that the Robust Reading Competition publishes."""
    names = ("evaluate_method", "levenshtein_distance", "question_ids_to_exclude")
    names += ("answer_types", "evidence_types", "reasoning_requirements")
    run = functions(path, *names).evaluate_method
    options = types.SimpleNamespace(answer_types=False, anls_threshold=0.5)

    def official(rows: Sequence[Row]) -> list[float]:
        truth = [{"questionId": i, "question": "", "answers": r} for i, (_, r) in enumerate(rows)]
        given = [{"questionId": i, "answer": p} for i, (p, _) in enumerate(rows)]
        with tempfile.TemporaryDirectory() as folder:
            files = [pathlib.Path(folder) / name for name in ("truth", "given")]
            files[0].write_text(json.dumps({"data": truth}))
            files[1].write_text(json.dumps(given))
            found = run(*files, options)["per_sample_result"]
        return [found[str(i)]["score"] for i in range(len(rows))]

    return Comparison("anls, lower", official, each("anls", "anls", lower=True), 3)


def aokvqa(path: pathlib.Path) -> Comparison:
    """A-OKVQA: github.com/allenai/aokvqa; every third question is a difficult one."""
    run = functions(path, "eval_aokvqa").eval_aokvqa

    def official(rows: Sequence[Row]) -> list[float | None]:
        scores = []
        for i, (prediction, refs) in enumerate(rows):
            question = {
                "difficult_direct_answer": i % 3 == 0,
                "choices": [],
                "direct_answers": refs,
            }
            scores.append(None if i % 3 == 0 else run({"q": question}, {"q": prediction}) / 100)
        return scores

    def ours(rows: Sequence[Row]) -> list[float | None]:
        score = get_metric("vqa_accuracy", leave_one_out=False, leave_out="difficult")
        return [
            score(prediction, {"answers": refs, "difficult": i % 3 == 0}).get("acc")
            for i, (prediction, refs) in enumerate(rows)
        ]

    return Comparison("vqa_accuracy, leave_out", official, ours, 10)


def relaxed(path: pathlib.Path) -> Comparison:
    """ChartQA: github.com/google-research/pix2struct."""
    run = functions(path, "relaxed_correctness", Optional=Optional).relaxed_correctness

    def official(rows: Sequence[Row]) -> list[float]:
        return [float(max(run(ref, prediction) for ref in refs)) for prediction, refs in rows]

    ours = each("relaxed_accuracy", "acc", lower=True)
    return Comparison("relaxed_accuracy, lower", official, ours)


def pope(path: pathlib.Path) -> Comparison:
    """POPE: github.com/AoiDragon/POPE, a script whose first lines name its files."""

    def official(rows: Sequence[Row]) -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            source = path.read_text()
            for name, key, texts in (
                ("ans_file", "answer", [p for p, _ in rows]),
                ("label_file", "label", _labels(rows)),
            ):
                file = pathlib.Path(folder) / name
                file.write_text("".join(json.dumps({key: text}) + "\n" for text in texts))
                source = source.replace(f"{name} = ''", f"{name} = {str(file)!r}")
            space: dict[str, Any] = {}
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(source, str(path), "exec"), space)
        return [float(a == b) for a, b in zip(space["pred_list"], space["label_list"], strict=True)]

    def ours(rows: Sequence[Row]) -> list[float]:
        records: list[dict[str, Any]] = [
            {"prediction": p, "suffix": x} for (p, _), x in zip(rows, _labels(rows), strict=True)
        ]
        get_metric("pope")(records)
        return [record["scores"]["acc"] for record in records]

    known = {
        "an answer other than yes or no is wrong, which the official code takes for one of them": (
            lambda p, refs: p.lower() not in ("yes", "no")
        ),
        '"NO" and "nO", which the official code takes for yes, are no': (
            lambda p, refs: p in ("NO", "nO")
        ),
    }
    return Comparison("pope", official, ours, 1, known)


def _labels(rows: Sequence[Row]) -> list[str]:
    return ["yes" if len(refs[0]) % 2 else "no" for _, refs in rows]


def science_qa(path: pathlib.Path) -> Comparison:
    """ScienceQA: github.com/lupantech/ScienceQA; the letter that is read from an answer."""
    openai = types.SimpleNamespace(Completion=types.SimpleNamespace())
    run = functions(path, "get_gpt3_result", openai=openai).get_gpt3_result

    class Arguments:
        def __getattr__(self, name: str) -> None:
            return None

    def said(prediction: str, refs: list[str]) -> str:
        """Sentences of the form that the model is trained on, and the texts as they are."""
        letter = "ABCDE"[len(refs[0]) % 5]
        kinds = (f"The answer is {letter}.", f"The answer is {letter}. {prediction}", prediction)
        return kinds[len(prediction) % 3]

    def official(rows: Sequence[Row]) -> list[str]:
        letters = []
        for row in rows:
            reply = {"choices": [{"text": said(*row)}]}
            openai.Completion.create = lambda reply=reply, **_: reply
            letters.append(run("", Arguments())[0])
        return letters

    def ours(rows: Sequence[Row]) -> list[str]:
        return [(answer_letter(said(*row)) or "FAILED").upper() for row in rows]

    known = {
        'only an answer that begins with "The answer is X." counts, in any case of letters; the '
        "official code finds it anywhere, if only once, with any character for the full stop": (
            lambda p, refs: not re.fullmatch(r"The answer is [A-Z]\.", said(p, refs))
        )
    }
    return Comparison("science_qa", official, ours, 1, known)


def activitynet(path: pathlib.Path) -> Comparison:
    """ActivityNet-QA: github.com/MILVLG/activitynet-qa; equality, as in GQA, NLVR2 and others."""
    run = functions(path, "eval").eval

    def official(rows: Sequence[Row]) -> list[float]:
        scores = []
        for prediction, refs in rows:
            truth = [{"question_id": "q", "type": 3, "answer": refs[0]}]
            corrects, _ = run([{"question_id": "q", "answer": prediction}], truth)
            scores.append(float(corrects[3]))
        return scores

    known = {
        "white space at the ends does not count": lambda p, refs: p.strip() == refs[0].strip(),
    }
    return Comparison("exact_match", official, each("exact_match", "acc"), 1, known)


def masks(path: pathlib.Path) -> Comparison:
    """RefCOCO: github.com/yz93/LAVT-RIS; the IoU of a mask, whose mean is mIoU."""
    run = functions(path, "computeIoU").computeIoU

    def pair(row: Row) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(sum(map(ord, row[0] + row[1][0])))
        found, truth = rng.random((2, *rng.integers(1, 12, 2))) < rng.random()
        truth[0, 0] = True  # RefCOCO has no empty reference
        return found, truth

    def official(rows: Sequence[Row]) -> list[float]:
        shares = (run(*pair(row)) for row in rows)
        return [float(inside / union) for inside, union in shares]

    def ours(rows: Sequence[Row]) -> list[float]:
        text = "<loc0000><loc0000><loc1023><loc1023>" + "<seg000>" * 16
        scores = []
        for row in rows:
            found, truth = pair(row)
            metric = get_metric("segmentation", draw=lambda *_, found=found: found)
            scores.append(metric(text, {"mask": truth, "boxes": [(0, 0, 1, 1)]})["miou"])
        return scores

    return Comparison("segmentation", official, ours)


def captions() -> list[Comparison]:
    """COCO captions: pycocoevalcap, with its tokenizer in Java."""
    names = ("bleu.bleu", "cider.cider", "tokenizer.ptbtokenizer")
    parts = [importlib.import_module(f"pycocoevalcap.{name}") for name in names]
    Bleu, Cider, PTBTokenizer = parts[0].Bleu, parts[1].Cider, parts[2].PTBTokenizer

    def tokens(rows: Sequence[Row]) -> list[str]:
        texts = {i: [{"caption": _line(prediction)}] for i, (prediction, _) in enumerate(rows)}
        found = PTBTokenizer().tokenize(texts)
        return [found[i][0] for i in range(len(rows))]

    def our_tokens(rows: Sequence[Row]) -> list[str]:
        return ptb_tokenize([_line(prediction) for prediction, _ in rows])

    def records(rows: Sequence[Row]) -> list[dict]:
        return [{"prediction": _line(p), "answers": list(map(_line, refs))} for p, refs in rows]

    def given(rows: Sequence[Row]) -> tuple[dict, dict]:
        """The words by pgjax's tokenizer, which `tokens` compares."""
        found, truths = tokenized(records(rows), ptb_tokenize)
        return dict(enumerate(truths)), {i: [text] for i, text in enumerate(found)}

    def cider(rows: Sequence[Row]) -> list[float]:
        return [float(x) for x in Cider().compute_score(*given(rows))[1]]

    def our_cider(rows: Sequence[Row]) -> list[float]:
        scored = records(rows)
        get_metric("cider")(scored)
        return [record["scores"]["cider"] for record in scored]

    def bleu(rows: Sequence[Row]) -> list[float]:
        with contextlib.redirect_stdout(io.StringIO()):
            return list(Bleu(4).compute_score(*given(rows))[0])

    def our_bleu(rows: Sequence[Row]) -> list[float]:
        scores = get_metric("cider", bleu=True)(records(rows))
        return [scores[f"bleu{n}"] for n in (1, 2, 3, 4)]

    return [
        Comparison("words of captions", tokens, our_tokens),
        Comparison("cider", cider, our_cider, 5),
        Comparison("bleu", bleu, our_bleu, 5),
    ]


def _line(text: str) -> str:
    """A caption without carriage returns, which shift the lines that the official code reads."""
    return text.replace("\r", "")


def same(a: Any, b: Any) -> bool:
    """Whether two scores are equal, but for rounding."""
    return abs(a - b) <= 1e-9 if isinstance(a, float) and isinstance(b, float) else a == b


def compare(each: Comparison, rows: Sequence[Row]) -> tuple[list[str], list[Row], list[Any]]:
    """Returns the cells of the table, the rows that differ without a reason, official scores."""
    official, ours = each.official(rows), each.ours(rows)
    reasons = dict.fromkeys(each.known, 0)
    unknown = []
    of_rows = rows if len(official) == len(rows) else [("", [""])] * len(official)
    for a, b, row in zip(official, ours, of_rows, strict=True):
        if not same(a, b):
            reason = next((name for name, concerns in each.known.items() if concerns(*row)), None)
            if reason is None:
                unknown.append(row)
            else:
                reasons[reason] += 1
    told = [f"{n:,}: {name}" for name, n in reasons.items() if n]
    told += [f"{len(unknown):,}: NOT KNOWN, such as {unknown[0]!r}"] if unknown else []
    equal = len(official) - len(unknown) - sum(reasons.values())
    numbers = [score for score in official if isinstance(score, float | int)]
    mean = f"{np.mean(numbers):.3f}" if numbers else ""
    cells = [each.name, f"{len(rows):,}", mean, f"{equal:,} of {len(official):,}", "; ".join(told)]
    return cells, unknown, official


def stored(rows: Sequence[Row], scores: Sequence[Any], left_out: Callable) -> dict[str, Any]:
    """Some rows with their official scores, and a checksum over both."""
    chosen = [(*row, s) for row, s in zip(rows, scores, strict=True) if not left_out(*row)]
    chosen = chosen[:STORED]
    digest = hashlib.sha256(json.dumps(chosen).encode()).hexdigest()
    return {"sha256": digest, "rows": chosen}


OFFICIAL: dict[str, Callable[[pathlib.Path], Comparison]] = {
    f.__name__: f
    for f in (vqa, textvqa, rrc, aokvqa, relaxed, pope, science_qa, activitynet, masks)
}
KEPT = ("vqa", "textvqa", "rrc", "aokvqa", "relaxed")  # by --store


def run(
    chosen: dict[str, Comparison], count: int, seed: int, stores: Sequence[str] = ()
) -> tuple[dict[str, Any], int]:
    """Prints a table of comparisons; returns some rows of those in `stores`, and what differs."""
    kept, wrong = {}, 0
    print("| metric | answers | mean score | equal | otherwise |\n|---|---|---|---|---|")
    for name, comparison in chosen.items():
        rows = make_rows(count, comparison.references, seed)
        cells, unknown, official = compare(comparison, rows)
        print(f"| {' | '.join(cells)} |", flush=True)
        wrong += len(unknown)
        if name in stores:
            known = comparison.known.values()
            kept[name] = stored(rows, official, lambda *row, k=known: any(f(*row) for f in k))
    return kept, wrong


def main() -> None:
    """Compares what has been given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name, make in OFFICIAL.items():
        parser.add_argument(f"--{name}", type=pathlib.Path, help=make.__doc__)
    parser.add_argument("--captions", action="store_true", help=captions.__doc__)
    parser.add_argument("--count", type=int, default=5000, help="answers of each metric")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=pathlib.Path, help="JSON file for some of the scores")
    args = parser.parse_args()
    chosen = {name: make(path) for name, make in OFFICIAL.items() if (path := getattr(args, name))}
    if args.captions:
        chosen |= {each.name: each for each in captions()}
    kept, wrong = run(chosen, args.count, args.seed, KEPT)
    if args.store:
        args.store.write_text(json.dumps(kept, ensure_ascii=True, separators=(",", ":")) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
