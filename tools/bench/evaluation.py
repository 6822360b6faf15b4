"""Evaluates benchmarks of full size from end to end, and prints memory, speed and input waits.

    python tools/bench/evaluation.py [vqav2 …] [--folder DIR] [--limit N]

Writes a synthetic set in the layout of the official files, with the official number of questions
and small images, brings it into array_record with `pgjax prepare`, and evaluates the tiny model
on it with `pgjax evaluate` in a process of its own, whose resident memory is watched.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from evaluation_sets import CASES

ROOT = pathlib.Path(__file__).resolve().parents[2]
MIB = 2**20
BATCH, TOKENS = 64, 8


def run(name: str, folder: pathlib.Path, limit: int, flags: list[str]) -> None:
    """Makes, prepares and evaluates a benchmark, and prints the measurements."""
    case = CASES[name]
    count = min(limit or case.count, case.count)
    source, data = folder / f"{name}_{count}_source", folder / f"{name}_{count}"
    if not data.exists():
        source.mkdir(parents=True, exist_ok=True)
        case.make(source, count)
        prepare = [
            sys.executable,
            "-m",
            "pgjax",
            "prepare",
            name,
            f"--source={source}",
            f"--out={data}",
        ]
        prepare += ["--splits", case.split] + ["--no-check_counts"] * (count < case.count)
        start = time.perf_counter()
        subprocess.run(prepare, cwd=ROOT, check=True)
        print(f"prepared {count:,} examples in {time.perf_counter() - start:.0f} s", flush=True)
    config = f"{case.config}:variant=tiny"
    changes = {
        "data_dir": data,
        f"evals.{case.evaluation}.data.split": case.split,
        f"evals.{case.evaluation}.batch_size": BATCH,
        f"evals.{case.evaluation}.max_new_tokens": TOKENS,
    }
    watch(
        [sys.executable, "-m", "pgjax.evaluate", f"--config={config}"]
        + [f"--config.{key}={value}" for key, value in changes.items()]
        + [f"--evals={case.evaluation}", f"--out={folder / 'out' / f'{name}_{count}'}", *flags]
    )


def watch(command: list[str]) -> None:
    """Runs a command, prints its lines with its resident memory, and then a summary."""
    seen: list[tuple[int, float]] = []  # questions so far, and MiB
    peak = 0.0
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        memory = resident(process.pid)
        peak = max(peak, memory)
        print(f"[{memory:7.0f} MiB] {line}", end="", flush=True)
        if at := re.search(r" ([\d,]+)/[\d,]+  [\d,.]+ questions/s", line):
            seen.append((int(at[1].replace(",", "")), memory))
    if process.wait():
        raise SystemExit(process.returncode)
    if seen:
        early, late = seen[len(seen) // 10], seen[-1]
        print(
            f"memory: {early[1]:.0f} MiB after {early[0]:,} questions, {late[1]:.0f} MiB after "
            f"{late[0]:,}, highest seen {peak:.0f} MiB"
        )


def resident(pid: int) -> float:
    """Returns the resident memory of a process and its children, in MiB."""
    total = 0
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        children = f.read().split()
    for each in [str(pid), *children]:
        try:
            pages = pathlib.Path(f"/proc/{each}/statm").read_text().split()[1]
            total += int(pages) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            continue  # The process has ended.
    return total / MIB


def main() -> None:
    """Evaluates the benchmarks one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=list(CASES), metavar="NAME", help="benchmarks")
    parser.add_argument(
        "--folder",
        type=pathlib.Path,
        help="a folder to keep the files in (default: a temporary one)",
    )
    parser.add_argument("--limit", type=int, default=0, help="the most questions (default: all)")
    parser.add_argument("--flag", action="append", default=[], help="a flag for pgjax.evaluate")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.names:
            run(name, args.folder or pathlib.Path(temporary), args.limit, args.flag)


if __name__ == "__main__":
    main()
