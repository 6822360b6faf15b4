"""Prints the FLOPs and exchanged bytes per device by the number of devices, beside theory.

    python tools/bench/scaling.py --device v5e --counts 8 16 64 256 --rows 4 [--mode full]

With the same number of rows per device, each should do the same FLOPs, whatever their number n.
With fsdp, each parameter is gathered before it is used, forward and backward, and each gradient is
reduced to the device that holds its parameter, so a device sends at least

    all-gather      2 · (n-1)/n · Σ elements · 2 bytes     (all parameters, in 16 bits)
    reduce-scatter      (n-1)/n · Σ elements · 2 bytes     (trainable parameters)

(ZeRO stage 3, Rajbhandari et al., arXiv:1910.02054, §7.2, where the sum is 3Ψ). This needs the
compilers, not the devices. Results are written to --json one by one.
"""

import argparse
import json
import math
import sys
from typing import Any

from planned import MODELS, add_flags, config_of, markdown, run_cases

COUNTS = {"v5e": (8, 16, 32, 64, 128, 256), "h100": (8, 16, 32, 64)}
WIDTH = 2  # the bytes of an exchanged element


def case(device: str, model: str, mode: str, res: int, rows: int, count: int) -> dict[str, Any]:
    """Returns the plan's figures, and the numbers of parameters that the theory needs."""
    from pgjax.devices.data_sheets import get_device
    from pgjax.devices.targets import target_devices, use_cpu
    from pgjax.training.training_plan import open_step_builder, plan

    use_cpu()
    table = get_device(device)
    if target_devices(table, count) is None:
        raise SystemExit(f"the compiler of {device} is not installed (extra cuda12 or tpu)")
    config = config_of(model, mode, res, rows * count, count)
    builder = open_step_builder(config, table)
    sizes = {name: math.prod(shape) for name, shape in builder.sharded.shapes.items()}
    return {
        **plan(config, table, largest=False).summary,
        "parameters": sum(sizes.values()),
        "trainable": sum(sizes[name] for name in builder.multipliers),
    }


def in_theory(result: dict[str, Any]) -> dict[str, float]:
    """Returns the least bytes that a device sends, by kind of collective."""
    share = (result["count"] - 1) / result["count"] * WIDTH
    return {
        "all-gather": 2 * share * result["parameters"],
        "reduce-scatter": share * result["trainable"],
    }


def line(result: dict[str, Any]) -> list[str]:
    """Formats a row of the table."""
    theory, sent = in_theory(result), result["collective_bytes"] or {}
    others = sum(size for kind, size in sent.items() if kind not in theory)
    pairs = [f"{sent.get(kind, 0) / 1e9:.2f} ({size / 1e9:.2f})" for kind, size in theory.items()]
    total = sum(sent.values()) / sum(theory.values())
    return [
        str(result["count"]), f"{result['flops'] / 1e12:.2f}", *pairs, f"{others / 1e9:.2f}",
        f"{total:.2f}", f"{result['peak_bytes'] / 2**30:.2f}",
        f"{result['seconds_at_least']:.3g} ({result['bound_by']})",
    ]  # fmt: skip


def main(argv: list[str] | None = None) -> str:
    """Prints the table, and returns it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="v5e", choices=list(COUNTS), help="the kind of device")
    parser.add_argument("--counts", nargs="+", type=int, help="numbers of devices")
    parser.add_argument("--model", default="3b", choices=list(MODELS), help="the model")
    parser.add_argument("--mode", default="full", help="what trains")
    parser.add_argument("--res", type=int, default=224, help="the resolution in pixels")
    parser.add_argument("--rows", type=int, default=4, help="examples per device")
    add_flags(parser, "scaling.json")
    args = parser.parse_args(argv)
    if args.case:
        print(json.dumps(case(**args.case)))
        return ""
    cases = [
        {"device": args.device, "model": args.model, "mode": args.mode, "res": args.res,
         "rows": args.rows, "count": count}
        for count in args.counts or COUNTS[args.device]
    ]  # fmt: skip
    results = sorted(run_cases(__file__, cases, args.json), key=lambda r: r["count"])
    header = [
        args.device, "TFLOP per device", "all-gather GB (theory)", "reduce-scatter GB (theory)",
        "others GB", "sent / theory", "peak GiB", "seconds at least",
    ]  # fmt: skip
    text = markdown(header, [line(r) for r in results if r["flops"]])
    print(text)
    return text


if __name__ == "__main__":
    main(sys.argv[1:])
