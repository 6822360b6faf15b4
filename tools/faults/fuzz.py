"""Gives hostile inputs to every reader, parser, loader and command, and prints what came of them.

    python tools/faults/fuzz.py --inputs=20000 --seed=0
    python tools/faults/fuzz.py --only 'COCO*' --inputs=500
    python tools/faults/fuzz.py --only COCO --at=3.17      # one input again, in this process

Each input is either taken, and then what was read is compared with an independent reading where
there is one, or refused with one sentence. Anything else is a fault: a traceback, a crash, more
than 5 seconds of processor time, or a wrong result. Prints a Markdown table, and exits with 1 if
there is a fault.
"""

import argparse
import collections
import fnmatch
import os
import pathlib
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from tools.faults.fuzzing.children import VERDICTS, Outcome, run
from tools.faults.fuzzing.targets import TARGETS


def main() -> int:
    """Runs the campaign."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=20_000, help="how many, over all targets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of targets' names")
    parser.add_argument("--at", help="BATCH.INDEX of one input to check again")
    args = parser.parse_args()
    targets = [t for t in TARGETS if any(fnmatch.fnmatch(t.name, p) for p in args.only)]
    shares = sum(t.share for t in targets)
    total: collections.Counter[str] = collections.Counter()
    faults: list[Outcome] = []
    print(f"| target | inputs | {' | '.join(VERDICTS)} | seconds |")
    print("| --- | --- |" + " --- |" * (len(VERDICTS) + 1))
    for target in targets:
        start = time.monotonic()
        count = -(-args.inputs * target.share // shares)
        only = tuple(map(int, args.at.split("."))) if args.at else None
        counts, bad = run(target, args.seed, int(count), only=only)
        total += counts
        faults += bad
        _row(target.name, counts, time.monotonic() - start)
        for fault in bad:
            print(f"{fault.target} {fault.place} {fault.verdict}: {fault.detail}", file=sys.stderr)
    _row("all", total)
    return 1 if faults else 0


def _row(name: str, counts: collections.Counter[str], seconds: float | None = None) -> None:
    cells = [counts.total(), *(counts[v] for v in VERDICTS)]
    took = "" if seconds is None else f"{seconds:.0f}"
    print(f"| {name} | {' | '.join(f'{n:,}' for n in cells)} | {took} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
