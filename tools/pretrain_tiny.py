"""Trains the tiny checkpoint that ships with pgjax, from random parameters, on a CPU.

    python tools/pretrain_tiny.py --workdir runs/pretrain_tiny --out pgjax/checkpoints/tiny.npz

It stands in for a released `pt` checkpoint: it is trained on drawn scenes, plain and textured, with
short prompts (`color of square`), and is meant to be fine-tuned. The quickstart fine-tunes it on
other scenes, with the prompts that users of PaliGemma write. `--variant pg2-tiny` makes one of
PaliGemma 2, whose logits are capped as in the released ones.
"""

import argparse
import pathlib
import sys

import jax
import numpy as np
from ml_collections import ConfigDict
from pretrain_tower import pretrain_tower

from pgjax import trees
from pgjax.checkpoints.npz import write_npz
from pgjax.errors import UserError
from pgjax.loading.parameters import open_run
from pgjax.models.paligemma import init_params, make_model
from pgjax.recipes import transfer
from pgjax.text.tokenizer import Tokenizer
from pgjax.training.loop import train

# Tasks whose answers describe the image more fully occur more often.
TASKS = ("caption", "shape", "detect", "color", "caption", "detect_all", "count", "segment")
# The mixture as (style, most shapes, weight). From scenes with one shape the model learns to see
# and to locate, from those with more to distinguish. Together this takes a fraction of the time
# that scenes with three shapes alone would take.
PARTS = (("plain", 1, 0.15), ("rich", 1, 0.2), ("rich", 2, 0.4), ("rich", 3, 0.25))


def config(variant: str, steps: int, lr: float, init: pathlib.Path) -> ConfigDict:
    """Returns the config of the pretraining run."""
    scenes = {"name": "scenes", "wording": "pt", "tasks": TASKS}
    answers = {"kind": "answers", "metric": {"name": "by_task"}, "batch_size": 100, "every": 1000}
    val = {**scenes, "style": "rich", "split": "pretrain_val", "num_examples": 300}
    c = transfer(
        "pretrain_tiny",
        variant=variant,
        train={},
        evals={
            f"val{n}": {**answers, "data": {**val, "max_shapes": n}, "max_new_tokens": 28}
            for n in (1, 2)
        },
        prompt="",
        target="",
        text_len=32,
        steps=steps,
        batch_size=32,
        lr=lr,
    )
    c.init = str(init)
    if variant == "pg2-tiny":
        c.model.llm.final_softcap = 30.0
    drawn = {**scenes, "split": "pretrain", "num_examples": 5_000_000}
    c.input.mixture = ConfigDict(
        {
            f"{style}{n}": {"weight": weight, "data": {**drawn, "style": style, "max_shapes": n}}
            for style, n, weight in PARTS
        }
    )
    c.loss_chunk = 32
    c.frozen_dtype = "float32"
    c.optimizer.args.b2 = 0.99
    c.log_every = 100
    c.checkpoint_every = 500
    return c


def start(path: pathlib.Path, spec: dict, tower_steps: int) -> None:
    """Writes the parameters that pretraining starts from.

    They are random, with three exceptions. Image positions are 2-D sine and cosine embeddings. The
    embeddings of location tokens lie on a smooth curve, so that neighbouring locations are similar
    from the start. The image tower has been trained by `pretrain_tower`.
    """
    model = make_model(spec)
    flat = {k: np.array(v) for k, v in trees.flatten(init_params(model, jax.random.key(0))).items()}
    side = round(model.num_patches**0.5)
    y, x = np.mgrid[:side, :side].reshape(2, -1)
    width = model.img_config.width
    frequencies = 1 / 100 ** (np.arange(width // 4) / (width // 4))
    positions = np.concatenate([waves(y, frequencies), waves(x, frequencies)], axis=1)
    flat["img/pos_embedding"] = positions[None]
    tower = {k.removeprefix("img/"): v for k, v in flat.items() if k.startswith("img/")}
    learnt = pretrain_tower(model.bind({}).img, tower, steps=tower_steps)
    flat |= {f"img/{name}": x for name, x in learnt.items()}

    table = flat["llm/embedder/input_embedding"]
    tokenizer = Tokenizer.tiny()
    locations = [tokenizer.loc_id(i) for i in range(1024)]
    curve = waves(np.arange(1024) / 1024, 2 * np.pi * 2.0 ** np.arange(-2, 4))
    mixed = curve @ np.random.default_rng(0).normal(size=(curve.shape[1], table.shape[1]))
    table[locations] = (mixed * table.std() / mixed.std()).astype(np.float32)
    write_npz(path, flat)


def waves(values: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Returns sines and cosines, float32 [n, 2k], of values [n] at frequencies [k]."""
    angles = values[:, None] * frequencies[None]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def main() -> int:
    """Trains, and writes the parameters in float16."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="the run directory")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the .npz to write")
    parser.add_argument("--variant", choices=("tiny", "pg2-tiny"), default="tiny")
    parser.add_argument("--steps", type=int, default=9000, help="the number of updates")
    parser.add_argument("--lr", type=float, default=2e-3, help="the learning rate")
    parser.add_argument(
        "--tower_steps", type=int, default=4000, help="the updates that pretrain the image tower"
    )
    parser.add_argument(
        "--init", type=pathlib.Path, help="an .npz to start from, instead of new parameters"
    )
    args = parser.parse_args()
    try:
        args.workdir.mkdir(parents=True, exist_ok=True)
        init = args.init or args.workdir / "init.npz"
        run = config(args.variant, args.steps, args.lr, init).to_dict()
        if not args.init and not init.exists():
            start(init, run["model"], args.tower_steps)
        train(run, args.workdir)
        _, params = open_run(args.workdir)
        write_npz(args.out, {name: np.asarray(x, np.float16) for name, x in params.items()})
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
