"""Compares recipes of detection on drawn images: plain, with noise boxes, and tuned by reward.

    python tools/bench/detection_recipes.py --set few --recipes plain,noise
    python tools/bench/detection_recipes.py --set many --recipes plain,noise
    python tools/bench/detection_recipes.py --set kinds --recipes plain,longer,reward

Each recipe tunes the tiny checkpoint on the same JSONL of boxes, once for each seed (which draws
other images too), and finds the objects of images that it has not seen. The tables have the mean
average precision of each seed, ranked as evaluations rank it (by the probability of the label with
noise boxes, else by that of all tokens), means, and those of the differences between two recipes
seed by seed, with 95 % intervals (Student's t over the seeds). Runs are kept under --out, and one
that is finished is not repeated.

Sets: `few` and `kinds` are the scenes that the tiny checkpoint knows, with one to four shapes, and
`many` have 10 to 16 small shapes on 64 × 64 pixels. `kinds` asks for the shapes of one kind, in the
words of pretraining, the others for all shapes, whose labels are their kinds, and whose order in
the file means nothing, as in COCO.

Recipes: `plain` learns the boxes in the order of the file, and `noise` fills up targets with noise
boxes, both for --steps; `longer` goes on from `plain` as it was, and `reward` goes on by reward,
both for --tuning updates.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import statistics
from typing import Any

import numpy as np
from PIL import Image
from scipy import stats

import pgjax
from pgjax.data.scenes import CELLS, COLORS, OUTLINES, SceneSource, coverage
from pgjax.inference.answer import Answer
from pgjax.inference.detections import scored_boxes
from pgjax.loading.compiler_options import cache_compilations
from pgjax.metrics.detection import mean_average_precision
from pgjax.recipes import transfer
from pgjax.text.locations import format_boxes
from pgjax.training.loop import train

SIZE = 64  # pixels of a side
GRID = 5  # places of a small shape along a side
# How many objects targets with noise boxes have, and the tokens of a target.
SETS = {"few": (8, 64), "many": (18, 128), "kinds": (6, 32)}
TEST = 160  # images to find objects in
BASED_ON = {"longer": "plain", "reward": "plain"}
AGAINST = {"noise": "plain", "longer": "plain", "reward": "longer"}

Objects = list[tuple[tuple[float, ...], str]]


@dataclasses.dataclass
class Scene:
    """An image, what is asked about it, and the boxes with labels that are the answer."""

    image: np.ndarray
    objects: Objects
    prompt: str = "detect all classes"


def draw_many(rng: np.random.Generator) -> Scene:
    """Draws 10 to 16 small shapes, each in a cell of a grid; boxes are (y0, x0, y1, x1) in 0..1."""
    colors = np.array(list(COLORS.values()), np.float32)
    image = np.broadcast_to(rng.uniform(20, 70, 3).astype(np.float32), (SIZE, SIZE, 3)).copy()
    cell = SIZE // GRID
    objects = []
    for place in rng.permutation(GRID * GRID)[: rng.integers(10, 16, endpoint=True)].tolist():
        side = int(rng.integers(7, 12, endpoint=True))
        y, x = (v * cell + int(rng.integers(cell + 1 - side)) for v in divmod(place, GRID))
        kind = list(OUTLINES)[rng.integers(len(OUTLINES))]
        patch = image[y : y + side, x : x + side]
        patch += coverage(kind, side) * (colors[rng.integers(len(colors))] - patch)
        objects.append((tuple(v / SIZE for v in (y, x, y + side, x + side)), kind))
    image += rng.normal(0, 4, image.shape).astype(np.float32)
    return Scene(image.clip(0, 255).astype(np.uint8), objects)


def draw_scenes(name: str, split: str, count: int, seed: int) -> list[Scene]:
    """Draws the images of a set."""
    rng = np.random.default_rng([seed, len(split)])
    if name == "many":
        return [draw_many(rng) for _ in range(count)]
    task = "detect_all" if name == "kinds" else "caption"
    source = SceneSource(
        split, seed=seed, num_examples=count, tasks=(task,), style="plain", wording="pt"
    )
    scenes = []
    for example, shapes in map(source.draw, range(count)):
        if name == "kinds":
            objects = [*zip(map(tuple, example["boxes"]), example["labels"], strict=True)]
            scenes.append(Scene(example["image"], objects, example["prefix"]))
        else:
            shapes = [shapes[i] for i in rng.permutation(len(shapes))]
            objects = [(tuple(v / CELLS for v in shape.box), shape.kind) for shape in shapes]
            scenes.append(Scene(example["image"], objects))
    return scenes


def write_jsonl(folder: pathlib.Path, scenes: list[Scene]) -> pathlib.Path:
    """Writes images and their boxes as users have them; returns the JSONL file."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, scene in enumerate(scenes):
        Image.fromarray(scene.image).save(folder / f"{i:04}.png")
        suffix = format_boxes(*zip(*scene.objects, strict=True))
        line = {"image": f"{i:04}.png", "prefix": scene.prompt, "suffix": suffix}
        lines.append(json.dumps(line))
    path = folder / "boxes.jsonl"
    path.write_text("\n".join(lines))
    return path


def answer_length(name: str, args: argparse.Namespace) -> int:
    """The most tokens of an answer."""
    objects, length = SETS[args.set]
    return max(length, 7 * (args.objects or objects)) if name == "noise" else length


def recipe(name: str, args: argparse.Namespace, fname: pathlib.Path, seed: int) -> Any:
    """The config of a recipe."""
    objects = args.objects or SETS[args.set][0] if name == "noise" else 0
    c = transfer(
        name,
        train={"name": "jsonl", "fname": str(fname)},
        evals={},
        prompt="",
        target="",
        variant="tiny",
        text_len=answer_length(name, args) + 12,
        steps=args.tuning if name in BASED_ON else args.noise_steps if objects else args.steps,
        batch_size=args.batch,
        lr=args.lr,
        objects=objects,
    )
    c.seed, c.log_every, c.frozen_dtype, c.model.remat = seed, 50, "float32", "none"
    if name == "longer":
        c.optimizer.lr = args.longer_lr
    if name == "reward":
        c.optimizer.lr = args.reward_lr
        c.reward.metric = {"name": args.metric}
        c.reward.samples, c.reward.kl = args.samples, args.kl
        c.input.batch_size = args.prompts
        c.log_every = 10
    return c


def scores_of(run: pathlib.Path, scenes: list[Scene], length: int) -> dict[str, float]:
    """The mean average precision of a run, with objects ranked by their labels or by all tokens."""
    model = pgjax.load(str(run))
    images, prompts = [scene.image for scene in scenes], [scene.prompt for scene in scenes]
    answers = model.generate(
        images, prompts, return_answers=True, batch_size=64, max_new_tokens=length
    )

    def average_precision(by_label: bool) -> float:
        records = [
            {
                "objects": objects_of(model, answer, by_label),
                "boxes": [box for box, _ in scene.objects],
                "labels": [label for _, label in scene.objects],
            }
            for answer, scene in zip(answers, scenes, strict=True)
        ]
        return mean_average_precision(records)["mAP"]

    return {"by_label": average_precision(True), "by_all": average_precision(False)}


def objects_of(model: pgjax.Model, answer: Answer, by_label: bool) -> list[dict[str, Any]]:
    """What an answer lists, with scores."""
    found = scored_boxes(model.context.tokenizer, answer.tokens, answer.logprobs, by_label=by_label)
    return [{"label": box.label, "box": box[:4], "score": score} for box, score in found]


def interval(values: list[float]) -> str:
    """Mean and half of the 95 % interval."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.3f}"
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.3f} ± {half:.3f}"


def main() -> None:
    """Runs the recipes that flags name, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--set", choices=tuple(SETS), default="many")
    add("--recipes", default="plain,noise,longer,reward")
    add("--seeds", type=int, default=3)
    add("--out", type=pathlib.Path, default=pathlib.Path("/tmp/detection_recipes"))
    add("--images", type=int, default=600, help="images to train on")
    add("--steps", type=int, default=150)
    add("--noise_steps", type=int, default=0, help="0: as many as --steps")
    add("--batch", type=int, default=8)
    add("--lr", type=float, default=1e-3)
    add("--objects", type=int, default=0, help="of a target with noise boxes; 0: 8, 18 or 6")
    add("--tuning", type=int, default=40, help="updates of longer and of reward")
    add("--longer_lr", type=float, default=1e-4)
    add("--reward_lr", type=float, default=1e-4)
    add("--metric", default="listed_objects")
    add("--prompts", type=int, default=6)
    add("--samples", type=int, default=8)
    add("--kl", type=float, default=0.01)
    args = parser.parse_args()
    args.noise_steps = args.noise_steps or args.steps
    cache_compilations()
    table: dict[str, list[dict[str, float]]] = {}
    for seed in range(args.seeds):
        folder = args.out / f"{args.set}_{seed}"
        fname = folder / "data" / "boxes.jsonl"
        if not fname.exists():
            write_jsonl(fname.parent, draw_scenes(args.set, "train", args.images, seed))
        test = draw_scenes(args.set, "test", TEST, seed)
        for name in args.recipes.split(","):
            run = folder / name
            done = run / "scores.json"
            if not done.exists():
                config = recipe(name, args, fname, seed)
                if base := BASED_ON.get(name):
                    config.init = str(folder / base)
                train(config, run)
                done.write_text(json.dumps(scores_of(run, test, answer_length(name, args))))
            scores = json.loads(done.read_text())
            table.setdefault(name, []).append(scores)
            print(args.set, seed, name, scores, flush=True)
    print_table(table)


def print_table(table: dict[str, list[dict[str, float]]]) -> None:
    """Prints the scores of each recipe, and by how much it is better than another, seed by seed."""
    print("\n| recipe | mAP by seed | mean | ranked otherwise | better than |")
    print("| --- | --- | --- | --- | --- |")
    own = {name: "by_label" if name == "noise" else "by_all" for name in table}
    for name, rows in table.items():
        scores = [row[own[name]] for row in rows]
        (other,) = rows[0].keys() - {own[name]}
        gain, base = "", AGAINST.get(name)
        if base in table:
            gains = [x - row[own[base]] for x, row in zip(scores, table[base], strict=True)]
            gain = f"{base} by {interval(gains)}"
        each, mean = ", ".join(f"{x:.3f}" for x in scores), interval(scores)
        print(f"| {name} | {each} | {mean} | {interval([x[other] for x in rows])} | {gain} |")


if __name__ == "__main__":
    main()
