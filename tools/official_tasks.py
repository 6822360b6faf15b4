"""Compares metrics of the tasks that are new in PaliGemma 2's paper with the official evaluators.

    python tools/official_tasks.py --hiertext hiertext --icdar15 text_eval_script_ic15.py \\
        --kern SMT/eval_functions.py --molscribe MolScribe/evaluate.py

As tools/official_scores.py does, for text spotting (the folder of HierText's repository, which
needs shapely and absl-py; the script of the Robust Reading Competition beside
rrc_evaluation_funcs_ic15.py, which needs Polygon3), music (the Sheet Music Transformer's) and
molecules (MolScribe's, which needs rdkit and SmilesPE).
"""

import argparse
import collections
import importlib
import importlib.util
import math
import pathlib
import random
import re
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from pgjax.metrics import get_metric
from tools.official_scores import Comparison, Row, functions, run

SIDE = 1024  # pixels of an image, so that location tokens are pixels


def scene(row: Row, corners: int) -> dict[str, Any]:
    """Words of an image and an answer, which is often almost right, by the text of a row.

    Args:
      row: what the scene depends on.
      corners: of a word's outline; 0 for any number.
    """
    rng = random.Random("".join((row[0], *row[1])))
    texts = [t for t in (row[0] + " " + row[1][0]).split() if t.isprintable() and t[0] != '"']
    texts = [t[:12] for t in texts[:6] if "<loc" not in t] or ["Hot!"]
    words, answers = [], []
    for _ in range(rng.choice([0, 1, 2, 5, 9])):
        x, y = rng.uniform(120, 900), rng.uniform(120, 900)
        w, h = rng.uniform(10, 110), rng.uniform(5, 50)
        turn = rng.choice([0, 0, rng.uniform(-0.2, 0.2), rng.uniform(-1, 1)])
        if corners == 4 or rng.random() < 0.5:
            around = [(-w, -h), (w, -h), (w, h), (-w, h)]
        else:
            turns = sorted(rng.uniform(-math.pi, math.pi) for _ in range(rng.randint(3, 9)))
            around = [
                (far * math.cos(t), far * math.sin(t))
                for t, far in ((t, rng.uniform(0.6, 1) * w) for t in turns)
            ]
        cos, sin = math.cos(turn), math.sin(turn)
        points = [(round(x + a * cos - b * sin), round(y + a * sin + b * cos)) for a, b in around]
        if len(set(points)) < 3 or abs(area(points)) < 1:
            continue
        text = rng.choice(texts)
        words.append((points, text, rng.random() < 0.8))
        xs, ys = zip(*points, strict=True)
        box = [min(xs), min(ys), max(xs), max(ys)]
        for _ in range(rng.choice([0, 1, 1, 1, 2])):
            moved = [v + rng.choice([0, 0, 1, -3, 8, -20]) for v in box]
            said = rng.choice([text, text, text.lower(), text.strip("!.,"), rng.choice(texts)])
            if 0 <= moved[0] < moved[2] < SIDE and 0 <= moved[1] < moved[3] < SIDE and said:
                answers.append((moved, said))
    rng.shuffle(answers)
    return {"words": words, "answers": answers}


def area(points: Sequence[tuple[int, int]]) -> float:
    """Twice the area of a polygon, which is positive where it runs clockwise in an image."""
    after = [*points[1:], points[0]]
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, after, strict=True))


def record(case: dict[str, Any]) -> dict[str, Any]:
    """A scene as the metric takes it."""
    parts = []
    for (x0, y0, x1, y1), text in case["answers"]:
        parts.append("".join(f"<loc{v:04}>" for v in (y0, x0, y1, x1)) + f" {text}")
    return {
        "prediction": " ; ".join(parts),
        "words": [text for _, text, _ in case["words"]],
        "legible": [legible for *_, legible in case["words"]],
        "outlines": [",".join(f"{x},{y}" for x, y in points) for points, *_ in case["words"]],
        "size": [SIDE, SIDE],
    }


def rectangle(box: Sequence[int]) -> list[tuple[int, int]]:
    """The corners of a box, clockwise."""
    x0, y0, x1, y1 = box
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def hiertext(path: pathlib.Path) -> Comparison:
    """HierText's evaluator of words: github.com/google-research-datasets/hiertext."""
    sys.path.insert(0, str(path))
    code = importlib.import_module("evaluator.evaluator")
    run_one = code.HierTextEvaluator(text_box_type=code.TextBoxRep.POLY, evaluate_text=True)

    def case(row: Row) -> tuple[dict[str, Any], bool]:
        return scene(row, 0), len(row[0]) % 3 > 0  # whether outlines count, or boxes around them

    def official(rows: Sequence[Row]) -> list[tuple[float, ...]]:
        scores = []
        for found, polygons in map(case, rows):
            shapes = []
            for points, *_ in found["words"]:
                xs, ys = zip(*points, strict=True)
                around = rectangle((min(xs), min(ys), max(xs), max(ys)))
                shapes.append(np.array(points if polygons else around))
            given = {
                "gt_weights": np.array([float(w[2]) for w in found["words"]]),
                "gt_boxes": shapes,
                "gt_texts": np.array([w[1] for w in found["words"]], object),
                "detection_boxes": [np.array(rectangle(box)) for box, _ in found["answers"]],
                "pred_texts": np.array([text for _, text in found["answers"]], object),
            }
            values = run_one.evaluate(run_one.evaluate_one_image(given))
            names = ("E2E-Fscore", "E2E-Precision", "E2E-Recall", "Det-Fscore")
            scores.append(tuple(round(float(values[name]), 9) for name in names))
        return scores

    def ours(rows: Sequence[Row]) -> list[tuple[float, ...]]:
        scores = []
        for found, polygons in map(case, rows):
            values = get_metric("text_spotting", polygons=polygons)([record(found)])
            scores.append(tuple(round(v, 9) for v in values.values()))
        return scores

    return Comparison("text_spotting", official, ours)


def icdar15(path: pathlib.Path) -> Comparison:
    """ICDAR 2015, end to end: the script of rrc.cvc.uab.es, such as in aim-uofa/AdelaiDet."""
    spec = importlib.util.spec_from_file_location("rrc", path.parent / f"{_FUNCTIONS}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    given = {"namedtuple": collections.namedtuple, "importlib": importlib}
    given |= {"rrc_evaluation_funcs": module}
    code = functions(path, "evaluate_method", "evaluation_imports", **given)
    options = {
        "IOU_CONSTRAINT": 0.5, "AREA_PRECISION_CONSTRAINT": 0.5, "WORD_SPOTTING": False,
        "MIN_LENGTH_CARE_WORD": 3, "GT_SAMPLE_NAME_2_ID": "gt_img_([0-9]+).txt",
        "DET_SAMPLE_NAME_2_ID": "res_img_([0-9]+).txt", "LTRB": False, "CRLF": False,
        "CONFIDENCES": False, "SPECIAL_CHARACTERS": "!?.:,*\"()·[]/'",
        "ONLY_REMOVE_FIRST_LAST_CHARACTER": True,
    }  # fmt: skip

    def cases(rows: Sequence[Row]) -> list[dict[str, Any]]:
        found = [scene(row, 4) for row in rows]
        for case in found:
            case["words"] = [
                (points if area(points) > 0 else points[::-1], text, legible)
                for points, text, legible in case["words"]
            ]
        return found

    def line(points: Sequence[tuple[int, int]], text: str) -> str:
        return ",".join(f"{x},{y}" for x, y in points) + f",{text}\n"

    def official(rows: Sequence[Row]) -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            files = [pathlib.Path(folder) / name for name in ("truth.zip", "given.zip")]
            with zipfile.ZipFile(files[0], "w") as a, zipfile.ZipFile(files[1], "w") as b:
                for i, case in enumerate(cases(rows)):
                    words = (line(p, t if legible else "###") for p, t, legible in case["words"])
                    a.writestr(f"gt_img_{i}.txt", "".join(words))
                    answers = (line(rectangle(box), text) for box, text in case["answers"])
                    b.writestr(f"res_img_{i}.txt", "".join(answers))
            result = code.evaluate_method(*map(str, files), options)
        each = [float(result["per_sample"][str(i)]["hmean"]) for i in range(len(rows))]
        totals = re.findall(r"[0-9.]+(?:e-[0-9]+)?", result["e2e_method"].partition(":")[2])
        found = re.findall(r"hmean: ([0-9.e-]+)", result["det_only_method"])
        return [*each, *map(float, totals), *map(float, found)]

    def ours(rows: Sequence[Row]) -> list[float]:
        records = list(map(record, cases(rows)))
        values = get_metric("text_spotting", protocol="icdar", polygons=True)(records)
        names = ("precision", "recall", "f1", "detection_f1")
        return [*(r["scores"]["f1"] for r in records), *(values[name] for name in names)]

    return Comparison("text_spotting, icdar", official, ours)


_FUNCTIONS = "rrc_evaluation_funcs_ic15"


def kern(path: pathlib.Path) -> Comparison:
    """GrandStaff: eval_functions.py of github.com/antoniorv6/SMT, beside its utils.py."""
    distance = functions(path.with_name("utils.py"), "levenshtein").levenshtein
    names = ("parse_krn_content", "compute_metric", "compute_poliphony_metrics")
    code = functions(path, *names, levenshtein=distance)

    def case(row: Row) -> tuple[str, str]:
        rng = random.Random("".join((row[0], *row[1])))

        def score(text: str) -> str:
            words = text.split() or ["4C"]
            return "".join(w[:6] + rng.choice("\t\n \n") for w in words[:12])

        truth = score(row[1][0])
        answer = rng.choice([truth, truth.replace("\t", " "), truth[3:], score(row[0]), ""])
        return answer, truth

    def official(rows: Sequence[Row]) -> list[float]:
        found = [case(row) for row in rows]
        each = [code.compute_poliphony_metrics([a], [t]) for a, t in found]
        each.append(code.compute_poliphony_metrics(*map(list, zip(*found, strict=True))))
        return [value / 100 for values in each for value in values]

    def ours(rows: Sequence[Row]) -> list[float]:
        records: list[dict[str, Any]] = [
            {"prediction": a, "answers": [t]} for a, t in map(case, rows)
        ]
        total = get_metric("kern")(records)
        each = [*(record["scores"] for record in records), total]
        return [scores[name] for scores in each for name in ("cer", "ser", "ler")]

    return Comparison("kern", official, ours)


MOLECULES = """CC(=O)Oc1ccccc1C(=O)O CN1C=NC2=C1C(=O)N(C(=O)N2C)C N[C@@H](C)C(=O)O C/C=C/C C/C=C\\C
C[C@H]1CC[C@@H](O)CC1 c1ccc2[nH]ccc2c1 [O-][N+](=O)c1ccc(Cl)cc1 [R1]CC(=O)N[R2] [Ph]OC *CC [2H]C
CC(C)(C)OC(=O)N1CCC[C@H]1C(=O)O FC(F)(F)c1cc(Br)ccc1I [Na+].[Cl-] OC[C@H]1O[C@@H](O)[C@H](O)C1
C1CC2CCC1C2 [CH3:7]C C#N O=S(=O)(N)c1ccc(cc1)N CCO C [X]C [Boc]NCC c1ccsc1 N1CCOCC1"""


def molscribe(path: pathlib.Path) -> Comparison:
    """Molecules: evaluate.py of github.com/thomas0809/MolScribe."""
    from rdkit import Chem, rdBase  # pyright: ignore[reportMissingImports]
    from SmilesPE.pretokenizer import atomwise_tokenizer  # pyright: ignore[reportMissingImports]

    rdBase.DisableLog("rdApp.*")
    code = functions(path, "canonicalize_smiles", Chem=Chem, atomwise_tokenizer=atomwise_tokenizer)

    def case(row: Row) -> tuple[str, str]:
        rng = random.Random("".join((row[0], *row[1])))
        truth, other = rng.sample(MOLECULES.split(), 2)
        molecule = Chem.MolFromSmiles(truth)
        order = list(range(molecule.GetNumAtoms())) if molecule else []
        rng.shuffle(order)
        again = Chem.RenumberAtoms(molecule, order) if order else None
        written = Chem.MolToSmiles(again, canonical=False) if again else truth
        cut = rng.randrange(len(truth))
        return rng.choice([
            written, written, written.replace("@@", "@"), other, truth[:cut] + truth[cut + 1 :],
            truth.replace("/", ""), truth.lower(), "", row[0].strip(), f"{truth}.{other}",
        ]), truth  # fmt: skip

    def official(rows: Sequence[Row]) -> list[tuple[float, float]]:
        scores = []
        for pair in map(case, rows):
            exact = [code.canonicalize_smiles(s, ignore_cistrans=True)[0] for s in pair]
            graph = [code.canonicalize_smiles(s, True, True)[0] for s in pair]
            scores.append((float(exact[0] == exact[1]), float(graph[0] == graph[1])))
        return scores

    def ours(rows: Sequence[Row]) -> list[tuple[float, float]]:
        metric = get_metric("smiles")
        each = (metric(answer, {"answers": [truth]}) for answer, truth in map(case, rows))
        return [(scores["acc"], scores["graph"]) for scores in each]

    return Comparison("smiles", official, ours)


OFFICIAL = {f.__name__: f for f in (hiertext, icdar15, kern, molscribe)}


def main() -> None:
    """Compares what has been given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name, make in OFFICIAL.items():
        parser.add_argument(f"--{name}", type=pathlib.Path, help=make.__doc__)
    parser.add_argument("--count", type=int, default=5000, help="answers of each metric")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chosen = {name: make(path) for name, make in OFFICIAL.items() if (path := getattr(args, name))}
    sys.exit(bool(run(chosen, args.count, args.seed)[1]))


if __name__ == "__main__":
    main()
