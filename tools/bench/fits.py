"""Prints the largest batch and the shortest step on each device, by the devices' own compilers.

    python tools/bench/fits.py --devices t4 h100 v5e-8 --models 3b --modes full lora --res 224 448

A cell is `largest batch · least time of its step · most examples/s`, or – if no batch fits. Runs
use Adam and texts of 128 tokens. This needs the compilers (the extras cuda12 and tpu), not the
devices. A case takes some minutes. Results are written to --json one by one, and a second call
continues.
"""

import argparse
import itertools
import json
import sys
from typing import Any

from planned import (
    MODELS,
    add_flags,
    config_of,
    device_and_count,
    kept,
    markdown,
    run_cases,
)

DEVICES = (
    "t4", "l4", "a100-40", "a100-80", "h100", "h200", "v5e-8", "v5e-64", "v5p-8", "v6e-8",
)  # fmt: skip
MODES = ("full", "freeze_vit", "attention", "lora", "qlora")
START = {224: 8, 448: 4, 896: 1}  # the rows per device of the first compilation


def case(device: str, model: str, mode: str, res: int) -> dict[str, Any]:
    """Returns the plan's figures; nothing is compiled if even one row needs too much."""
    from pgjax.devices.data_sheets import get_device
    from pgjax.devices.targets import target_devices, use_cpu
    from pgjax.training.step_memory import estimate_memory
    from pgjax.training.training_plan import open_step_builder, plan

    use_cpu()
    name, count = device_and_count(device)
    table = get_device(name)
    if target_devices(table, count) is None:
        raise SystemExit(f"the compiler of {name} is not installed (extra cuda12 or tpu)")
    least = config_of(model, mode, res, count, count)
    at_least = estimate_memory(open_step_builder(least, table)).peak
    if at_least > table.usable_bytes:
        return {"largest_batch": 0, "peak_bytes_at_least": at_least}
    config = config_of(model, mode, res, count * START[res], count)
    return plan(config, table).summary


def cell(result: dict[str, Any] | None) -> str:
    """Formats a cell of the table."""
    if result is None:
        return ""
    batch = result["largest_batch"]
    if not batch:
        return "–"
    seconds = result["largest_batch_seconds_at_least"]
    return f"{batch} · {seconds:.3g} s · {batch / seconds:.3g}/s"


def main(argv: list[str] | None = None) -> str:
    """Prints a table per model, and returns the text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--devices", nargs="+", default=DEVICES, help="such as t4 or v5e-8")
    parser.add_argument(
        "--models", nargs="+", default=list(MODELS), choices=list(MODELS), help="the models"
    )
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES, help="what trains")
    parser.add_argument(
        "--res", nargs="+", type=int, default=list(START), choices=list(START), help="pixels"
    )
    parser.add_argument(
        "--only_table", action="store_true", help="print what --json holds, without new cases"
    )
    add_flags(parser, "fits.json")
    args = parser.parse_args(argv)
    if args.case:
        print(json.dumps(case(**args.case)))
        return ""
    names = ("device", "model", "mode", "res")
    wanted = itertools.product(args.devices, args.models, args.modes, args.res)
    cases = [dict(zip(names, values, strict=True)) for values in wanted]
    results = kept(args.json) if args.only_table else run_cases(__file__, cases, args.json)
    by_case = {tuple(r[n] for n in names): r for r in results}
    columns = list(itertools.product(args.modes, args.res))
    texts = []
    for model in args.models:
        rows = [
            [device, *(cell(by_case.get((device, model, *column))) for column in columns)]
            for device in args.devices
        ]
        header = [f"PaliGemma {model}", *(f"{mode} {res}" for mode, res in columns)]
        texts.append(markdown(header, rows))
    text = "\n\n".join(texts)
    print(text)
    return text


if __name__ == "__main__":
    main(sys.argv[1:])
