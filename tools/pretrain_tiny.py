"""Trains the tiny checkpoint that ships with pgjax, from nothing, on a CPU.

    python tools/pretrain_tiny.py --workdir runs/pretrain_tiny --out pgjax/checkpoints/tiny.npz

It plays the part of a released `pt` checkpoint: it has seen drawn scenes, plain and textured,
with terse prompts of its own (`color of square`), and is meant to be tuned. The quickstart tunes
it on other scenes with the prompts that PaliGemma's users write.
"""

import argparse
import pathlib
import sys

import jax
import numpy as np
from ml_collections import ConfigDict

from pgjax import trees
from pgjax.checkpoints.npz import write_npz
from pgjax.errors import UserError
from pgjax.inference.session import open_run
from pgjax.models.paligemma import init_params, make_model
from pgjax.recipes import transfer
from pgjax.training.loop import train

# Weighted towards the tasks whose answers say most about the image.
TASKS = ("detect", "caption", "detect_all", "color", "detect", "count")
# (style, shapes at most, weight): a single shape teaches to see and to locate, more shapes teach
# to tell apart. Learnt together they take a fraction of the time that full scenes alone take.
PARTS = (("plain", 1, 0.3), ("rich", 1, 0.2), ("plain", 2, 0.1), ("rich", 2, 0.1), ("rich", 3, 0.3))


def config(steps: int, init: pathlib.Path) -> ConfigDict:
    """The pretraining run."""
    scenes = {"name": "scenes", "wording": "pt", "tasks": TASKS}
    answers = {"kind": "answers", "metric": {"name": "by_task"}, "batch_size": 100, "every": 1000}
    val = {**scenes, "style": "rich", "split": "pretrain_val", "num_examples": 300}
    c = transfer(
        "pretrain_tiny",
        variant="tiny",
        train={},
        evals={
            f"val{n}": {**answers, "data": {**val, "max_shapes": n}, "max_new_tokens": 20}
            for n in (1, 3)
        },
        prompt="",
        target="",
        text_len=26,
        steps=steps,
        batch_size=32,
        lr=2e-3,
    )
    c.init = str(init)
    drawn = {**scenes, "split": "pretrain", "num_examples": 5_000_000}
    c.input.mixture = ConfigDict(
        {
            f"{style}{n}": {"weight": weight, "data": {**drawn, "style": style, "max_shapes": n}}
            for style, n, weight in PARTS
        }
    )
    c.model.remat = "none"
    c.loss_chunk = 26
    c.frozen_dtype = "float32"
    c.optimizer.args.b2 = 0.99
    c.log_every = 100
    c.checkpoint_every = 500
    return c


def start(path: pathlib.Path, spec: dict) -> None:
    """Random weights, with 2-D sine and cosine position embeddings to begin from."""
    model = make_model(spec)
    flat = {k: np.array(v) for k, v in trees.flatten(init_params(model, jax.random.key(0))).items()}
    side = round(model.num_patches**0.5)
    flat["img/pos_embedding"] = sincos_2d(side, model.img_config.width)[None]
    write_npz(path, flat)


def sincos_2d(side: int, width: int) -> np.ndarray:
    """Position embeddings of a square grid: float32 [side², width] (arXiv:2104.02057)."""
    y, x = np.mgrid[:side, :side].reshape(2, -1, 1)
    frequency = 1 / 100 ** (np.arange(width // 4) / (width // 4))
    waves = [f(v * frequency) for v in (y, x) for f in (np.sin, np.cos)]
    return np.concatenate(waves, axis=1).astype(np.float32)


def main() -> int:
    """Trains, then writes the parameters in half precision."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=8000)
    args = parser.parse_args()
    try:
        args.workdir.mkdir(parents=True, exist_ok=True)
        init = args.workdir / "init.npz"
        run = config(args.steps, init).to_dict()
        if not init.exists():
            start(init, run["model"])
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
