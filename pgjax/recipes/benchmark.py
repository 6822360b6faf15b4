"""A row of the table of transfers as a config: what is a benchmark's own in, the rest from here.

A transfer file takes the argument `key=value,…` of `--config NAME:…`:
    res       image size: 224, 448 or 896, where the row has numbers for it
    mode      what is tuned, instead of what the row says: full, freeze_vit, attention, …
    init      checkpoint to start from, such as ft-vqav2-448 to evaluate the published one
    variant   3b; pg2-3b, pg2-10b or pg2-28b of PaliGemma 2, with the numbers of its paper; tiny, a
              toy model that ships with pgjax, or pg2-tiny, a random one; "": that of init, or 3b
    mini      a run of one step with a tiny model, to try everything out
"""

import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from pgjax.benchmarks.published import PUBLISHED
from pgjax.config.init_sizes import variants_of
from pgjax.errors import UserError
from pgjax.recipes.base import parse_arg
from pgjax.recipes.paligemma2_rates import SIZES, learning_rate
from pgjax.recipes.transfer import VARIANTS, transfer

# What `:mini` runs with: the same for all, so that all are the same compiled programs.
_MINI = {
    "res": 64, "text_len": 192, "batch_size": 4, "steps": 1, "epochs": 0,
    "lr": 1e-3, "weight_decay": 0.0, "label_smoothing": 0.0, "dropout": 0.0,
}  # fmt: skip
_MINI_TOKENS = 8
_MINI_OBJECTS = 2


def prepared(dataset: str, split: str) -> dict[str, Any]:
    """A data source: a split, such as `train+validation[:90%]`, that `pgjax prepare` wrote."""
    return {"name": "prepared", "dataset": dataset, "split": split}


def answers(
    dataset: str, split: str, metric: str | Mapping[str, Any] = "exact_match", **options: Any
) -> dict[str, Any]:
    """An evaluation: answers to the prompts of a prepared split, scored against its `answers`.

    Args:
      dataset: its name for `pgjax prepare`.
      split: as for `prepared`.
      metric: its name, or a dict with its options.
      **options: of the evaluation: `published` (a key of pgjax/benchmarks/published.py, whose
        scores stand beside these), `submission` (a format of pgjax/evaluation/submissions.py, where
        a server scores), `sampler="beam(2)"`, or a `prompt` of its own.
    """
    metric = {"name": metric} if isinstance(metric, str) else dict(metric)
    data = prepared(dataset, split)
    return {"kind": "answers", "data": data, "metric": metric, "target": "", **options}


def benchmark(
    name: str,
    arg: str | None,
    *,
    evals: Mapping[str, Mapping[str, Any]],
    prompt: str,
    text_len: int,
    train: Mapping[str, Any] | None = None,
    init: str = "pt-{res}",
    mode: str | Mapping[int, str] = "",
    batch_size: int | Mapping[int, int] = 128,
    lr: float | Mapping[int, float] = 0.0,
    on_truncate: str = "truncate",
    **row: Any,
) -> ConfigDict:
    """A transfer with the numbers of its row at one image size, or an evaluation alone.

    Args:
      name: of the benchmark.
      arg: of the config file, see above.
      evals: from `answers`.
      prompt: operations that make `prefix`.
      text_len: tokens of prompt and target.
      train: from `prepared`; None for what is only evaluated.
      init: checkpoint of 3b, with the image size as `{res}`; other variants have their own.
      mode: what the row tunes; "" for everything.
      batch_size: over all processes; like every number, one for all image sizes or by size.
      lr: learning rate of 3b; PaliGemma 2 takes the table of its paper, see `paligemma2_rates`.
      on_truncate: what happens to text that is too long; counted and reported.
      **row: further arguments of `transfer`, numbers by image size or not.

    Raises:
      UserError: an unknown argument, or an image size that the row has no numbers for.
    """
    args = parse_arg(arg, variant="", res=224, mode="", init="", mini=False)
    variant = args.variant or _variant_of(args.init)
    row = {**row, "mode": mode, "batch_size": batch_size, "lr": lr, "text_len": text_len}
    # PaliGemma 2 was tuned at 448 px with the numbers of 224 px.
    at = 224 if (args.res, variant in SIZES) == (448, True) else args.res
    row = {key: _by_res(name, key, value, at) for key, value in row.items()}
    row["mode"] = args.mode or row["mode"]
    evals = {key: dict(spec) for key, spec in evals.items()}
    row.update(variant=variant, res=args.res)
    if train and (rate := learning_rate(variant, name)):
        row["lr"] = min(rate, row["lr"]) if args.res > 448 else rate
    if args.mini:
        row.update(_MINI, variant="pg2-tiny" if variant.startswith("pg2-") else "tiny")
        row["objects"] = min(row.get("objects", 0), _MINI_OBJECTS)
        train = train and _whole(train)
        for spec in evals.values():
            spec.update(data=_whole(spec["data"]), max_new_tokens=_MINI_TOKENS)
    if str(row["variant"]).endswith("tiny"):
        row["res"] = _MINI["res"]
    c = transfer(
        name,
        train=train or {},
        evals=evals,
        prompt=prompt,
        target=row.pop("target", ""),
        on_truncate=on_truncate,
        **row,
    )
    if args.mini:
        c.model.remat, c.frozen_dtype = "none", "float32"
    if row["variant"] == "3b":
        c.init = init.format(res=args.res)
    c.init = args.init or c.init
    family = variant if variant in SIZES and not args.mini else ""
    if re.search(r"(^|-)mix-", c.init):  # nothing is published of PaliGemma 2's
        family = f"{family}_mix" if family else "mix"
    for spec in c.evals.values():
        if spec.get("published"):
            spec.published = _scores_of(spec.published, family)
    return c


def _variant_of(init: str) -> str:
    """The variant whose decoder a checkpoint has by its name; 3b for any other name."""
    llm = (variants_of(init) or {}).get("llm")
    return next((name for name, v in VARIANTS.items() if v["llm"]["variant"] == llm), "3b")


def _scores_of(name: str, family: str) -> str:
    """The key of a benchmark's published scores for a family of checkpoints; "" for none."""
    key = f"{family}_{name}" if family else name
    known = any(name in (k, k.partition("_")[2]) for k in PUBLISHED)
    return key if key in PUBLISHED or not known else ""


def _whole(data: Mapping[str, Any]) -> dict[str, Any]:
    """A source without slices of its splits, which small data may not have."""
    return {**data, "split": re.sub(r"\[[^]]*\]", "", data["split"])}


def _by_res(name: str, key: str, value: Any, res: int) -> Any:
    """A value, or that of an image size where they differ."""
    if not isinstance(value, Mapping):
        return value
    if res not in value:
        raise UserError(f"{name} has no {key} for res={res}; choose from {sorted(value)}.")
    return value[res]
