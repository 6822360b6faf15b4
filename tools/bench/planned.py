"""What the tables of plans share: their cases, one process for each, and results that are kept."""

import argparse
import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

# Name -> variant of the decoder; the image tower is the same.
MODELS = {
    "3b": "gemma_2b",
    "2-3b": "gemma2_2b",
    "2-10b": "gemma2_9b",
    "2-28b": "gemma2_27b",
}
TEXT = 128  # tokens


def config_of(model: str, mode: str, res: int, batch: int, data: int) -> dict[str, Any]:
    """A run's config of a PaliGemma, with Adam and texts of 128 tokens, on `data` devices."""
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
    """`v5e-8` is eight of a v5e, `a100-40` one of the table's."""
    from pgjax.devices.data_sheets import DEVICES

    base, _, count = name.rpartition("-")
    return (name, 1) if name in DEVICES or not base else (base, int(count))


def add_flags(parser: argparse.ArgumentParser, default: str) -> None:
    """Where results are kept, and the case that a process of its own works on."""
    parser.add_argument("--json", type=pathlib.Path, default=pathlib.Path(default))
    parser.add_argument("--case", type=json.loads, help="of this file's own calls")


def kept(path: pathlib.Path) -> list[dict[str, Any]]:
    """Results of an earlier call."""
    return json.loads(path.read_text()) if path.exists() else []


def run_cases(
    script: str, cases: Sequence[dict[str, Any]], path: pathlib.Path
) -> list[dict[str, Any]]:
    """Works on each case in a process of its own, and writes each result as it comes.

    Args:
      script: is run with `--case JSON`, and ends with a line of JSON.
      cases: those whose result `path` holds already are left out.
      path: of the results: the cases, each with what was found.

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
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
