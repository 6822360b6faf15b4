"""Runs the benchmarks of one machine and prints their results as one table.

    python tools/bench/run.py [--size mid] [--only train decode input load] [--json FILE]
    python tools/bench/run.py --size 3b --memory_fraction 0.19      # with the memory of a T4

This runs on a CPU or on an accelerator. transformers and peft are measured as well if they are
installed. RESULTS.md holds results so far.
"""

import argparse
import json
import os
import pathlib

import decoding
import input as input_
import loading
import training
from common import SIZES, Row, machine, versions

GROUPS = ("train", "decode", "input", "load")
BATCHES = {"tiny": (1, 8), "mid": (1, 8), "3b": (1, 8, 32)}


def train(size: str, repeats: int, modes: list[str]) -> list[Row]:
    """Measures steps of each mode, and of full fine-tuning with each remat policy."""
    parser = argparse.ArgumentParser()
    training.add_flags(parser)
    flags = ["--size", size, "--repeats", str(repeats)]
    rows = training.table(parser.parse_args([*flags, "--modes", *modes]))
    if "full" in modes:
        for policy in ("full", "none"):
            args = parser.parse_args([*flags, "--remat", policy, "--peers", ""])
            rows += [
                Row(f"{row.what} (remat {policy})", row.value, row.unit)
                for row in training.table(args)
            ]
    return rows


def decode(size: str, repeats: int) -> list[Row]:
    """Measures prefill and tokens at several batch sizes."""
    parser = argparse.ArgumentParser()
    decoding.add_flags(parser)
    batches = map(str, BATCHES[size])
    flags = ["--size", size, "--repeats", str(repeats), "--batches", *batches]
    return decoding.table(parser.parse_args(flags))


def main() -> None:
    """Prints the table, and writes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=list(SIZES), default="mid", help="the model")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=GROUPS,
        default=["train", "decode", "input"],
        help="the benchmarks to run",
    )
    parser.add_argument(
        "--modes", nargs="+", choices=training.MODES, default=training.MODES, help="what trains"
    )
    parser.add_argument("--repeats", type=int, default=3, help="the number of rounds")
    parser.add_argument("--memory_fraction", type=float, help="the share of a GPU's memory to use")
    parser.add_argument("--json", type=pathlib.Path, help="a file to write the table to as well")
    args = parser.parse_args()
    if args.memory_fraction:
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = str(args.memory_fraction)
    # Each measurement is a process of its own, which must not find the memory taken.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    title = f"{machine()}; {versions()}"
    print(title, flush=True)
    groups = {
        "train": lambda: train(args.size, args.repeats, list(args.modes)),
        "decode": lambda: decode(args.size, args.repeats),
        "input": input_.table,
        "load": loading.table,
    }
    rows = []
    for name in args.only:
        for row in groups[name]():
            print(row, flush=True)
            rows.append(row)
    if args.json:
        content = {"machine": title, "rows": [vars(row) for row in rows]}
        args.json.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
