"""Helpers of the tables of plans: cases, a process per case, and results in a file."""

import argparse
import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

# The variant of the decoder by name; the image tower is the same for all.
MODELS = {
    "3b": "gemma_2b",
    "2-3b": "gemma2_2b",
    "2-10b": "gemma2_9b",
    "2-28b": "gemma2_27b",
}
TEXT = 128  # text tokens


def config_of(model: str, mode: str, res: int, batch: int, data: int) -> dict[str, Any]:
    """Returns the config of a run with Adam and texts of 128 tokens, on `data` devices."""
    from pgjax.recipes import adapted, transfer

    changes = {"adapt": mode, "model.llm": {"variant": MODELS[model]}, "mesh.data": data}
    c = transfer(
        "planned", train={}, evals={}, prompt="", target="", variant="3b", res=res, mode=mode,
        text_len=TEXT, steps=1000, batch_size=batch, lr=1e-5,
    )  # fmt: skip
    c.model.llm.variant = MODELS[model]
    c.mesh.data = data
    return adapted(c, changes).to_dict()


def device_and_count(name: str) -> tuple[str, int]:
    """Returns the device and the number of them: `v5e-8` is 8 × v5e, `a100-40` is 1 × a100-40."""
    from pgjax.devices.data_sheets import DEVICES

    base, _, count = name.rpartition("-")
    return (name, 1) if name in DEVICES or not base else (base, int(count))


def add_flags(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds the flags for the file of results, and for the case that a child process runs."""
    parser.add_argument(
        "--json", type=pathlib.Path, default=pathlib.Path(default), help="the file of results"
    )
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)


def kept(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads the results of earlier calls."""
    return json.loads(path.read_text()) if path.exists() else []


def run_cases(
    script: str, cases: Sequence[dict[str, Any]], path: pathlib.Path
) -> list[dict[str, Any]]:
    """Runs each case in a process of its own, and writes each result at once.

    Args:
      script: the script to run with `--case JSON`; its last line is JSON.
      cases: the cases; those whose result the file holds are skipped.
      path: the file of results, each of which includes its case.

    Returns:
      The results of these cases that there are, old and new.
    """
    results = kept(path)
    for case in cases:
        if any(case.items() <= result.items() for result in results):
            continue
        print(" ".join(map(str, case.values())), file=sys.stderr, flush=True)
        command = [sys.executable, script, "--case", json.dumps(case)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            print(f"failed: {last}", file=sys.stderr, flush=True)
            continue
        results.append({**case, **json.loads(done.stdout.splitlines()[-1])})
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(results, indent=1) + "\n")
        part.replace(path)
    return [r for r in results if any(case.items() <= r.items() for case in cases)]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
