"""Trains for 10,000 steps, and looks whether memory, open files and threads stay what they are.

    python tools/faults/soak.py --steps=10000 --folder=/tmp/soak

The model has one layer in each tower; data comes from two worker processes, with evaluations,
checkpoints and TensorBoard on the way. Prints a Markdown table of ten parts of the run with their
medians, and exits with 1 if the last four have more open files or threads than the four before
(two may be of a save), or 3 % more memory.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from pgjax.training.loop import train
from tools.faults.config import get_config

PARTS = 10
COMPARED = 4  # parts at the end, and as many before them
MORE_MEMORY = 1.03
COLUMNS = ("memory, MiB", "of workers, MiB", "open files", "threads")


def sample() -> tuple[float, float, int, int]:
    """Numbers for `COLUMNS`, of this process and its children."""
    children = pathlib.Path("/proc/self/task").glob("*/children")
    pids = [pid for path in children for pid in path.read_text().split()]
    return (
        _memory("self"),
        sum(map(_memory, pids)),
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
    )


def _memory(pid: str) -> float:
    """MiB of its own; pages of files come and go with what else the machine does."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def medians(samples: list[tuple]) -> list[float]:
    """The median of each column."""
    return [statistics.median(column) for column in zip(*samples, strict=True)]


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="is emptied")
    args = parser.parse_args()
    shutil.rmtree(args.folder, ignore_errors=True)

    c = get_config("case=workers")
    c.model.img = {"variant": "tiny/8", "depth": 1, "width": 32, "mlp_dim": 64}
    c.model.llm = {"variant": "gemma_tiny", "depth": 1, "width": 32, "mlp_dim": 64, "dropout": 0.0}
    c.init, c.input.batch_size, c.total_steps = "", 2, args.steps
    c.log_every = max(1, args.steps // 200)
    c.checkpoint_every = c.evals.val.every = c.evals.answers.every = max(1, args.steps // 40)

    samples: list[tuple[int, tuple]] = []

    def watch(step: int, values: object) -> None:
        if step % c.log_every == 0:
            samples.append((step, sample()))

    train(c, args.folder, on_metrics=watch)
    parts = [[] for _ in range(PARTS)]
    for step, values in samples:
        parts[min(PARTS - 1, step * PARTS // args.steps)].append(values)
    print(f"| until step | {' | '.join(COLUMNS)} |")
    print("|" + " --- |" * (1 + len(COLUMNS)))
    for k, part in enumerate(parts, 1):
        print(f"| {k * args.steps // PARTS:,} | {' | '.join(f'{x:.0f}' for x in medians(part))} |")
    first = medians([x for part in parts[-2 * COMPARED : -COMPARED] for x in part])
    last = medians([x for part in parts[-COMPARED:] for x in part])
    limits = [MORE_MEMORY * x for x in first[:2]] + [x + 2 for x in first[2:]]
    grown = [f"{name}: {a:.0f} to {b:.0f}" for name, a, b, limit in
             zip(COLUMNS, first, last, limits, strict=True) if b > limit]  # fmt: skip
    print("grown: " + ", ".join(grown) if grown else "nothing has grown")
    sys.exit(bool(grown))


if __name__ == "__main__":
    main()
