"""Runs lmms-eval and VLMEvalKit with a pgjax model, and `pgjax evaluate`, on the same questions.

    python tools/compare_harnesses.py --run_py VLMEvalKit/run.py --out compared

Both harnesses are those of the environment, and nothing is downloaded: their own tasks read small
data sets of drawn scenes that this program writes. Part of the references are made from answers of
the checkpoint, so that right and wrong ones occur. Prints a Markdown table of what differs,
and keeps each question's answers and scores in `--out`.
"""

import argparse
import ast
import base64
import io
import json
import os
import pathlib
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from pgjax.data.scenes import SceneSource
from pgjax.harnesses.harness_tasks import harness_answer
from pgjax.harnesses.tuned_model import TunedModel

ROOT = pathlib.Path(__file__).parents[1]
ASKED = ("count square", "color of circle", "shape of red", "size of blue circle", "caption")
YES_NO = ("exists red circle", "exists blue square", "exists green triangle")  # for POPE
OTHERS = ("yes", "No", "2", "3.0", "red", "Blue", "a circle", "small blue circle and red square")

# Benchmark -> evaluation, split, score, lmms-eval's task and score, VLMEvalKit's data and class.
BENCHMARKS: dict[str, tuple[str, str, str, str, str, str, str]] = {
    "vqav2": ("minival", "validation", "acc", "vqav2_val", "exact_match", "", ""),
    "textvqa": (
        "validation", "validation", "acc_textvqa", "textvqa_val", "exact_match", "TextVQA_MINI",
        "ImageVQADataset",
    ),
    "stvqa": ("minival", "train", "anls", "stvqa", "", "", ""),
    "docvqa": (
        "validation", "validation", "anls", "docvqa_val", "anls", "DocVQA_MINI", "ImageVQADataset",
    ),
    "chartqa": (
        "test", "test_human", "acc_all", "chartqa", "relaxed_overall", "ChartQA_MINI",
        "ImageVQADataset",
    ),
    "cococap": (
        "validation", "validation", "cider", "coco2014_cap_val", "", "COCO_MINI",
        "ImageCaptionDataset",
    ),
    "pope": (
        "random", "random", "acc", "pope", "pope_accuracy", "POPE_MINI", "ImageYORNDataset",
    ),
    "science_qa": (
        "test", "test", "acc", "scienceqa_img", "exact_match", "ScienceQA_MINI", "ImageMCQDataset",
    ),
    "ai2d": ("test", "test", "acc", "ai2d", "exact_match", "AI2D_MINI", "ImageMCQDataset"),
}  # fmt: skip
# Where the tasks of lmms-eval look for their data: folder, configuration, split.
PLACES = {
    "vqav2": ("VQAv2", "", "validation"),
    "textvqa": ("textvqa", "", "validation"),
    "stvqa": ("ST-VQA", "", "test"),
    "docvqa": ("DocVQA", "DocVQA", "validation"),
    "chartqa": ("ChartQA", "", "test"),
    "cococap": ("COCO-Caption", "", "val"),
    "pope": ("POPE", "", "test"),
    "science_qa": ("ScienceQA", "ScienceQA-IMG", "test"),
    "ai2d": ("ai2d", "", "test"),
}
WORDS = ("orange", "reen", "lue", "square", "triangle", "circle", "0")  # which it says at times
CHOICES = ("science_qa", "ai2d")
Row = dict[str, Any]  # a question: id, png, question, answers, and its choices


class _Pictures:
    """Rows as a data source."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        return {"image": row["png"], "hint": "", "correct": 0} | {
            key: row[key] for key in ("question", "choices") if key in row
        }

    def where(self, index: int) -> str:
        return f"row {index}"


def make_rows(name: str, model: TunedModel, count: int, seed: int) -> list[Row]:
    """Draws scenes with questions, and references of which about half fit the model's answers."""
    rng = random.Random(f"{name} {seed}")
    scenes = SceneSource("validation", num_examples=count, seed=seed, wording="pt")
    rows: list[Row] = []
    for i in range(count):
        out = io.BytesIO()
        Image.fromarray(np.asarray(scenes[i]["image"])).save(out, "PNG")
        asked = YES_NO if name == "pope" else ASKED
        rows.append({"id": 100 + i, "png": out.getvalue(), "question": rng.choice(asked)})
        if name in CHOICES:
            rows[-1]["choices"] = rng.sample(WORDS, 4)
    said = model.answers(BENCHMARKS[name][3], _Pictures(rows))
    for row, answer in zip(rows, said, strict=True):
        near = [answer, answer.upper(), f"{answer}.", f"the {answer}", answer[:-1], f"{answer}s"]
        texts = [t for t in (*near, *OTHERS) if t]
        if name == "pope":
            row["answers"] = [rng.choice(["yes", "no"])]
        elif name in CHOICES:
            row["correct"] = rng.randrange(4)
            letter = "ABCD"[row["correct"]]
            right = f"The answer is {letter}." if name == "science_qa" else row["choices"]
            row["answers"] = [right if isinstance(right, str) else right[row["correct"]]]
        else:
            references = {"vqav2": 10, "textvqa": 10, "chartqa": 1, "cococap": 5}.get(name, 2)
            pool = rng.sample(texts, min(3, len(texts)))
            row["answers"] = [rng.choice(pool) for _ in range(references)]
    return rows


def write_prepared(name: str, rows: Sequence[Row], folder: pathlib.Path) -> None:
    """Writes what `pgjax prepare --format jsonl` does."""
    _, split, *_ = BENCHMARKS[name]
    home = folder / name / "1.0.0"
    home.mkdir(parents=True)
    lines = []
    for row in rows:
        (home / f"{row['id']}.png").write_bytes(row["png"])
        example = {key: value for key, value in row.items() if key not in ("id", "png")}
        if name in CHOICES:
            example["hint"] = ""
        kind = {"question_type": "human"} if name == "chartqa" else {}
        lines.append({"image": f"{row['id']}.png", "question_id": row["id"], **example, **kind})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (home / f"{split}.jsonl").write_text(text)
    if name == "chartqa":  # its evaluation reads two parts; the second repeats one question
        (home / "test_augmented.jsonl").write_text(
            json.dumps({**lines[0], "question_type": "augmented", "question_id": 0}) + "\n"
        )


def lmms_document(name: str, row: Row) -> dict[str, Any]:
    """A row in the columns of lmms-eval's data set."""
    answers = row["answers"]
    own: dict[str, Any] = {
        "vqav2": {"answers": [{"answer": a, "answer_id": i} for i, a in enumerate(answers)]},
        "chartqa": {"answer": answers[0], "type": "human_test"},
        "cococap": {
            "answer": answers, "question_id": f"COCO_val2014_{row['id']:012}.jpg", "id": row["id"],
        },
        "pope": {"answer": answers[0]},
        "docvqa": {"questionId": str(row["id"]), "answers": answers},
        "science_qa": {"answer": row.get("correct"), "hint": "", "choices": row.get("choices")},
        "ai2d": {"answer": str(row.get("correct")), "options": row.get("choices")},
    }.get(name, {"answers": answers})  # fmt: skip
    if name == "vqav2":
        own["answer"] = answers[0]
    image = {"bytes": row["png"], "path": None}
    return {"image": image, "question_id": row["id"], "question": row["question"], **own}


def write_lmms(name: str, rows: Sequence[Row], folder: pathlib.Path) -> None:
    """Writes the folder that lmms-eval's task opens where the working directory has it."""
    import datasets

    place, config, split = PLACES[name]
    home = folder / "lmms-lab-encoder" / place
    home.mkdir(parents=True)
    table = datasets.Dataset.from_list([lmms_document(name, row) for row in rows])
    table.cast_column("image", datasets.Image()).to_parquet(home / f"{split}.parquet")
    config = config or "default"
    head = f"configs:\n- config_name: {config}\n  data_files:\n"
    (home / "README.md").write_text(
        f"---\n{head}  - split: {split}\n    path: {split}.parquet\n---\n"
    )


def write_tsv(name: str, rows: Sequence[Row], folder: pathlib.Path) -> None:
    """Writes VLMEvalKit's table."""
    import pandas as pd

    data = BENCHMARKS[name][5]
    lines = []
    for row in rows:
        answers = row["answers"]
        line: dict[str, Any] = {
            "index": row["id"],
            "image": base64.b64encode(row["png"]).decode(),
            "question": row["question"],
            "answer": answers[0] if name == "chartqa" else json.dumps(answers),
        }
        if name == "cococap":
            line["answer"] = json.dumps(answers)
            del line["question"]
        if name == "pope":
            line |= {"answer": answers[0].capitalize(), "category": "random"}
        if "choices" in row:
            line |= dict(zip("ABCD", row["choices"], strict=True))
            line["answer"] = "ABCD"[row["correct"]]
        lines.append(line)
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(lines).to_csv(folder / f"{data}.tsv", sep="\t", index=False)


def run(command: Sequence[str], log: pathlib.Path, cwd: pathlib.Path, **env: str) -> None:
    """Runs a program with its output in a file; a failure ends this one with the file's end."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    own = {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "HF_TOKEN": "none", **env}
    with log.open("w") as out:
        done = subprocess.run(
            command, cwd=cwd, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **own}
        )
    # lmms-eval ends with 0 when it fails.
    if done.returncode or "Error during evaluation" in log.read_text():
        raise SystemExit(f"{' '.join(command)} failed, see {log}:\n{log.read_text()[-3000:]}")


def pgjax_verdicts(
    names: Sequence[str], checkpoint: str, out: pathlib.Path
) -> dict[str, dict[int, tuple]]:
    """`pgjax evaluate`'s answer and score of each question, by benchmark."""
    found = {}
    for name in names:
        evaluation, _, score, *_ = BENCHMARKS[name]
        folder = out / "pgjax" / name
        run(
            [
                sys.executable, "-m", "pgjax", "evaluate", f"--config={name}:mini",
                f"--checkpoint={checkpoint}", f"--evals={evaluation}", f"--out={folder}",
                "--restart",
            ],
            out / f"pgjax_{name}.log", out, PGJAX_DATA=str(out / "prepared"),
        )  # fmt: skip
        records = map(json.loads, (folder / f"{evaluation}.jsonl").read_text().splitlines())
        found[name] = {
            r["question_id"]: (
                harness_answer(name, r["prediction"], r) if "choices" in r else r["prediction"],
                r["scores"].get(score),
            )
            for r in records
            if r["question_id"]
        }
    return found


def lmms_verdicts(
    names: Sequence[str], checkpoint: str, out: pathlib.Path
) -> dict[str, dict[int, tuple]]:
    """lmms-eval's, from the samples that it logs."""
    tasks = ",".join(BENCHMARKS[name][3] for name in names)
    run(
        [
            sys.executable, "-m", "lmms_eval", "--model", "pgjax", "--model_args",
            f"pretrained={checkpoint}", "--batch_size", "4", "--tasks", tasks, "--log_samples",
            "--output_path", str(out / "lmms_eval"),
        ],
        out / "lmms_eval.log", out / "hub", HF_HOME=str(out / "hf"),
    )  # fmt: skip
    return {name: dict(_lmms_samples(name, out / "lmms_eval")) for name in names}


def _lmms_samples(name: str, folder: pathlib.Path) -> Iterator[tuple[int, tuple]]:
    task, score = BENCHMARKS[name][3:5]
    (path,) = folder.rglob(f"*samples_{task}.jsonl")
    for line in path.read_text().splitlines():
        sample = json.loads(line)
        value = sample.get(score)
        value = value.get("score") if isinstance(value, Mapping) else value
        answer = sample["filtered_resps"]
        yield 100 + sample["doc_id"], (answer[0] if isinstance(answer, list) else answer, value)


def vlmeval_verdicts(
    names: Sequence[str], checkpoint: str, run_py: pathlib.Path, out: pathlib.Path
) -> dict[str, dict[int, tuple]]:
    """VLMEvalKit's, from the tables that it writes."""
    names = [name for name in names if BENCHMARKS[name][5]]
    data = {BENCHMARKS[name][5]: BENCHMARKS[name][6] for name in names}
    config = {key: {"class": value, "dataset": key} for key, value in data.items()}
    run(
        [
            sys.executable, "-m", "pgjax.harnesses.vlmeval", f"--checkpoint={checkpoint}",
            "--batch_size=4", str(run_py), "--data", *data, "--data-config", json.dumps(config),
            "--judge", "exact_matching", "--work-dir", str(out / "vlmeval"),
        ],
        out / "vlmeval.log", out, LMUData=str(out / "LMUData"),
    )  # fmt: skip
    return {name: dict(_vlmeval_lines(name, out / "vlmeval")) for name in names}


def _vlmeval_lines(name: str, folder: pathlib.Path) -> Iterator[tuple[int, tuple]]:
    import pandas as pd

    start = f"pgjax_{BENCHMARKS[name][5]}"
    # The last of these has no scores.
    ends = ("_results.xlsx", "_result.xlsx", "_auxmatch.xlsx", "MINI.xlsx")
    files = sorted((folder / "pgjax").glob(f"{start}*.xlsx"), key=lambda p: p.name)
    path = next(p for end in ends for p in files if p.name.endswith(end))
    frame = pd.read_excel(path)
    for _, line in frame.iterrows():
        score = next((float(line[key]) for key in ("hit", "score") if key in line), None)
        if "eval_match" in line:
            match = line["eval_match"]
            match = ast.literal_eval(match)
            if name == "docvqa":
                score = 1 - min(match)
                score = 0.0 if score < 0.5 else score
            else:
                score = max(match) if name == "chartqa" else float(np.mean(match))
        yield int(line["index"]), (str(line["prediction"]), score)


def compared(name: str, ours: Mapping[int, tuple], theirs: Mapping[int, tuple]) -> list[str]:
    """A row of the table: questions, equal answers and scores, and an example of other ones."""
    assert ours.keys() == theirs.keys(), (name, len(ours), len(theirs))
    answers = [i for i in ours if ours[i][0].strip() != theirs[i][0].strip()]
    scored = [i for i in ours if None not in (ours[i][1], theirs[i][1])]
    scores = [i for i in scored if abs(ours[i][1] - theirs[i][1]) > 1e-6]
    examples = [f"{i}: {ours[i]} against {theirs[i]}" for i in (answers[:1] + scores[:1])]
    right = sum(ours[i][1] or 0 for i in scored) / len(scored) if scored else 0.0
    return [
        name, str(len(ours)), str(len(ours) - len(answers)),
        f"{len(scored) - len(scores)} of {len(scored)}", f"{right:.3f}", "; ".join(examples),
    ]  # fmt: skip


def main() -> None:
    """Writes the data, runs everything, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run_py", type=pathlib.Path, help="run.py of VLMEvalKit")
    parser.add_argument("--lmms", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="a new folder")
    parser.add_argument("--checkpoint", default="tiny", help="tiny, or a run that began with it")
    parser.add_argument("--benchmarks", default=",".join(BENCHMARKS))
    parser.add_argument("--count", type=int, default=24, help="questions of each benchmark")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    names, out = args.benchmarks.split(","), args.out.resolve()
    out.mkdir(parents=True)
    checkpoint = args.checkpoint
    if pathlib.Path(checkpoint).exists():
        checkpoint = str(pathlib.Path(checkpoint).resolve())
    model = TunedModel(checkpoint)
    for name in names:
        rows = make_rows(name, model, args.count, args.seed)
        write_prepared(name, rows, out / "prepared")
        write_lmms(name, rows, out / "hub")
        if BENCHMARKS[name][5]:
            write_tsv(name, rows, out / "LMUData")
    ours = pgjax_verdicts(names, checkpoint, out)
    theirs = {"lmms-eval": lmms_verdicts(names, checkpoint, out)} if args.lmms else {}
    if args.run_py:
        theirs["VLMEvalKit"] = vlmeval_verdicts(names, checkpoint, args.run_py.resolve(), out)
    print("| harness | benchmark | questions | same answer | same score | mean | otherwise |")
    print("|---|---|---|---|---|---|---|")
    for harness, found in theirs.items():
        for name, verdicts in found.items():
            print(f"| {harness} | {' | '.join(compared(name, ours[name], verdicts))} |", flush=True)
    (out / "verdicts.json").write_text(json.dumps({"pgjax": ours, **theirs}, indent=1))


if __name__ == "__main__":
    main()
