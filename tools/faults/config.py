"""Small runs that use what training can do, each in another way: `config.py:case=lora`."""

import pathlib

from ml_collections import ConfigDict

from pgjax.recipes import parse_arg, transfer

CASES = (
    "plain", "workers", "accumulation", "adam8bit", "mixture", "lora", "qlora", "evaluations",
    "best",
)  # fmt: skip
STEPS = 24
PHOTOS = pathlib.Path(__file__).parents[2] / "tests" / "photos" / "photos.jsonl"


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of a case."""
    case = parse_arg(arg, case="plain").case
    source = {"name": "jsonl", "fname": str(PHOTOS), "root": ""}
    held_out = {**source, "split": "train[80%:]"}
    c = transfer(
        f"faults_{case}",
        variant="tiny",
        res=0,
        mode=case if case in ("lora", "qlora") else "",
        train={**source, "split": "train[:80%]"},
        evals={
            "val": {"kind": "perplexity", "data": held_out, "every": 10},
            "answers": {
                "kind": "answers", "metric": {"name": "exact_match"}, "data": held_out,
                "every": 0, "max_new_tokens": 6,
            },
        },
        prompt="setdefault('prefix', 'caption en')",
        target="",
        text_len=128,
        on_truncate="error",
        epochs=0,
        steps=STEPS,
        batch_size=4,
        lr=1e-3,
        weight_decay=3e-7,
    )  # fmt: skip
    for spec in c.evals.values():
        spec.batch_size = 2
    c.checkpoint_every, c.keep_last, c.log_every = 5, 2, 2
    if case == "workers":
        c.input.workers = 2
    elif case == "accumulation":
        c.grad_accum_steps = 2
    elif case == "adam8bit":
        c.optimizer.name = "adam8bit"
        c.optimizer.args = {}
    elif case == "mixture":
        c.input.mixture = {
            "first": {"data": {**source, "split": "train[:40%]"}, "weight": 2.0},
            "second": {"data": {**source, "split": "train[40%:80%]"}, "weight": 1.0},
        }
        c.input.data = {}
    elif case == "evaluations":
        c.eval_first = True
        c.evals.val.every, c.evals.answers.every = 3, 4
    elif case == "best":
        c.evals.val.every, c.keep_last = 2, 1
        c.keep_best, c.early_stopping.patience = "val/loss", 3
        c.optimizer.lr = 3e-3  # so high that the run gets worse again
    return c
