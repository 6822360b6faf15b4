"""What the benchmarks share: sizes, measuring in turn, and what this machine is."""

import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata, util
from typing import Any

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"res": 64, "img": {"variant": "tiny/8"}, "llm": {"variant": "gemma_tiny"}},
    # 185 million parameters, with the real vocabulary.
    "mid": {"res": 224, "img": {"variant": "mid/14"}, "llm": {"variant": "gemma_mid"}},
    "3b": {"res": 224, "img": {"variant": "So400m/14"}, "llm": {"variant": "gemma_2b"}},
}


@dataclasses.dataclass
class Row:
    """One line of the table."""

    what: str
    value: float
    unit: str
    note: str = ""

    def __str__(self) -> str:
        digits = 0 if abs(self.value) >= 1000 else 3
        return f"{self.what:<52} {self.value:>12,.{digits}f} {self.unit:<12} {self.note}".rstrip()


def measure_in_turn(
    script: str, subjects: Sequence[str], repeats: int, args: Sequence[object] = ()
) -> dict[str, list[dict[str, Any]]]:
    """Measures each subject in a process of its own, one after the other, `repeats` times over.

    Args:
      script: is run with `--measure SUBJECT` and `args`, and ends with a line of JSON.
      subjects: what is measured.
      repeats: rounds, so that a machine whose speed drifts treats all alike.
      args: further arguments of the script.

    Returns:
      The results of each subject; none where its process failed, and then it is said why.
    """
    results: dict[str, list[dict[str, Any]]] = {subject: [] for subject in subjects}
    for _ in range(repeats):
        for subject in subjects:
            command = [sys.executable, script, "--measure", subject, *map(str, args)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                print(f"{subject}: failed ({last})", file=sys.stderr, flush=True)
                continue
            results[subject].append(json.loads(done.stdout.splitlines()[-1]))
    return results


def median(results: Sequence[dict[str, Any]], key: str) -> float:
    """Over the results that have the key; NaN where none has."""
    values = [r[key] for r in results if r.get(key) is not None]
    return statistics.median(values) if values else float("nan")


def seconds_of(call: Callable[[], Any], times: int) -> list[float]:
    """Of some calls, after one that is not counted."""
    import time

    call()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def installed(*packages: str) -> bool:
    """Whether all of them can be imported."""
    return all(util.find_spec(package) is not None for package in packages)


def versions() -> str:
    """Of what the figures depend on."""
    names = ("jax", "flax", "torch", "transformers", "peft", "pillow")
    found = (
        f"{n} {metadata.version(n)}" for n in names if installed(n if n != "pillow" else "PIL")
    )
    return ", ".join(found)


def machine() -> str:
    """Device and processors, for people."""
    import jax

    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    kind = platform.machine() if device.platform == "cpu" else device.device_kind
    return f"{jax.device_count()} × {device.platform} ({kind}), {cores} CPU cores"


def peaks() -> tuple[float, float] | None:
    """(FLOP/s of 16-bit products, bytes/s of memory) of this machine's device, where known."""
    import jax

    from pgjax.devices.table import rates_of

    rates = rates_of(jax.devices()[0].device_kind)
    return rates and (rates.flops, rates.memory)
