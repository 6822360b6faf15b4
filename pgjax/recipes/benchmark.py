"""A row of the table of transfers as a config: what is a benchmark's own in, the rest from here.

A transfer file takes the argument `key=value,…` of `--config NAME:…`:
    res       image size: 224, 448 or 896, where the row has numbers for it
    mode      what is tuned, instead of what the row says: full, freeze_vit, attention, …
    init      checkpoint to start from, such as ft-vqav2-448 to evaluate the published one
    variant   3b, or tiny: a toy model that ships with pgjax
    mini      a run of one step with the tiny model, to try everything out
"""

import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from pgjax.benchmarks.published import PUBLISHED
from pgjax.config.init_sizes import derived_sizes
from pgjax.errors import UserError
from pgjax.recipes.base import parse_arg
from pgjax.recipes.transfer import transfer

# What `:mini` runs with: the same for all, so that all are the same compiled programs.
_MINI = {
    "variant": "tiny", "res": 64, "text_len": 192, "batch_size": 4, "steps": 1, "epochs": 0,
    "lr": 1e-3, "weight_decay": 0.0, "label_smoothing": 0.0, "dropout": 0.0,
}  # fmt: skip
_MINI_TOKENS = 8


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
      init: checkpoint, with the image size as `{res}`; of `tiny`, its own.
      mode: what the row tunes; "" for everything.
      batch_size: over all processes; like every number, one for all image sizes or by size.
      lr: learning rate.
      on_truncate: what happens to text that is too long; counted and reported.
      **row: further arguments of `transfer`, numbers by image size or not.

    Raises:
      UserError: an unknown argument, or an image size that the row has no numbers for.
    """
    args = parse_arg(arg, variant="3b", res=224, mode="", init="", mini=False)
    row = {**row, "mode": mode, "batch_size": batch_size, "lr": lr, "text_len": text_len}
    row = {key: _by_res(name, key, value, args.res) for key, value in row.items()}
    row["mode"] = args.mode or row["mode"]
    evals = {key: dict(spec) for key, spec in evals.items()}
    row.update(variant=args.variant, res=args.res)
    if args.mini:
        row.update(_MINI)
        train = train and _whole(train)
        for spec in evals.values():
            spec.update(data=_whole(spec["data"]), max_new_tokens=_MINI_TOKENS)
    tiny = row["variant"] == "tiny"
    if tiny:
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
    if not tiny:
        c.init = init.format(res=args.res)
    c.init = args.init or c.init
    c.model.update(derived_sizes(c.init, c.model))
    if c.init.startswith("mix-"):  # their scores have rows of their own
        for spec in c.evals.values():
            name = f"mix_{spec.get('published', '')}"
            spec.published = name if name in PUBLISHED else ""
    return c


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
