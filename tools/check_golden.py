"""Compares pgjax with a folder of reference outputs and prints the differences.

    python tools/check_golden.py DIR

DIR has the layout of `tests/golden`: a `manifest.json` with the model's sizes, and the arrays that
the reference implementations computed. The checks work for any such folder. They go further than
`pgjax conformance`: into steps of optimizers, precision, layouts of files and metrics. The exit
status is 0 if all checks pass, and 1 otherwise.
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Callable, Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax
from golden_checks import decoding, forward, huggingface, metrics, segmentation, training
from golden_checks.common import Check, Golden

GROUPS: dict[str, Callable[[Golden], Iterator[Check]]] = {
    "forward": forward.forward,
    "decode": decoding.decode,
    "token masks": decoding.masked,
    "bfloat16 cache": decoding.half_cache,
    "beam": decoding.beam,
    "loss": training.loss,
    "sgd (T4 recipe)": training.sgd,
    "adam": training.adam,
    "mask codec": segmentation.segmentation,
    "metrics": metrics.metrics,
    "hugging face": huggingface.folders,
    "other files": huggingface.half,
}


def main(argv: list[str] | None = None) -> int:
    """Prints a line per check and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path, help="a folder with manifest.json")
    args = parser.parse_args(argv)
    if not (args.folder / "manifest.json").is_file():
        print(f"error: {args.folder} has no manifest.json.", file=sys.stderr)
        return 2
    jax.config.update("jax_default_matmul_precision", "highest")
    golden = Golden(args.folder)
    failed = []
    for group, checks in GROUPS.items():
        for what, diff, tolerance in checks(golden):
            ok = diff <= tolerance
            print(
                f"{'PASS' if ok else 'FAIL'}  {group:<16} {what:<34} {diff:9.2e}  (≤ {tolerance:g})"
            )
            if not ok:
                failed.append(f"{group}: {what}")
    print(f"{len(failed)} failed" + (f": {', '.join(failed)}" if failed else ""))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
