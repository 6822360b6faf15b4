"""Trains a full-size PaliGemma-3B with random weights by QLoRA (`mode=qlora`) on this machine.

    python tools/bench/qlora_3b.py [--steps 2] [--batch 1] [--text 64]

It prints the number of parameters that train, the loss of each step, and the peak of resident
memory. Weights are made as they are read, a layer at a time, so the model never exists in floats.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import resource
import tempfile
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np

from pgjax import trees
from pgjax.checkpoints.formats import Checkpoint
from pgjax.loading import model_context, parameters
from pgjax.models.paligemma import abstract_params, make_model
from pgjax.recipes import adapted, transfer
from pgjax.text.tokenizer import Tokenizer
from pgjax.training.loop import train

DATA = pathlib.Path(__file__).parents[2] / "tests/photos/photos.jsonl"


@dataclasses.dataclass
class Random:
    """A tensor of small float16 values, which are made as they are read."""

    shape: tuple[int, ...]
    dtype = np.dtype(np.float16)

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Returns rows start:stop."""
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        rng = np.random.default_rng(start)
        part = (rng.standard_normal(2**22, np.float32) * 0.02).astype(np.float16)
        return np.resize(part, (stop - start, *self.shape[1:]))


class Vocabulary(Tokenizer):
    """The packaged tokenizer, with the vocabulary size of the real one, which needs a licence."""

    vocab_size = property(lambda self: 257_152, lambda self, value: None)


def main() -> None:
    """Trains, and prints the losses and memory."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=2, help="the number of steps")
    parser.add_argument("--batch", type=int, default=1, help="examples per step")
    parser.add_argument(
        "--text", type=int, default=64, help="text tokens, of prompt and target together"
    )
    args = parser.parse_args()
    config = transfer(
        "qlora_3b",
        train={"name": "jsonl", "fname": str(DATA)},
        evals={},
        prompt="setdefault('prefix', 'caption en')",
        target="",
        mode="qlora",
        text_len=args.text,
        steps=args.steps,
        batch_size=args.batch,
        lr=2e-4,
    )
    config.log_every = 1
    config.schedule.warmup_percent = 0.0
    if jax.default_backend() == "cpu":
        config.model.img_dtype = config.model.llm_dtype = "float32"
    config = adapted(config).to_dict()
    flat = trees.flatten(abstract_params(make_model({**config["model"], "lora": {}})))
    tensors = {name: Random(x.unbox().shape) for name, x in flat.items()}
    model_context.open_tokenizer = lambda _: Vocabulary(Tokenizer.tiny().model_bytes)
    parameters.open_checkpoint = lambda name: Checkpoint(pathlib.Path(name), tensors, {}, None)

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / "run"
        train(config, run)
        rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        losses = [round(row["loss"], 4) for row in rows if "loss" in row]
        saved = sum(p.stat().st_size for p in (run / "checkpoints").rglob("*") if p.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"batch {args.batch} × {args.text}: losses {losses}, {time.perf_counter() - start:.0f} s")
    print(f"checkpoint {saved / 2**20:.0f} MiB; peak resident memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
