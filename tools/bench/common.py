"""Helpers of the benchmarks: model sizes, measurements in turn, and facts about this machine."""

import dataclasses
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent import futures
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
    """One row of a table of results."""

    what: str
    value: float
    unit: str
    note: str = ""

    @property
    def number(self) -> str:
        """The value, formatted for reading."""
        size = abs(self.value)
        if 0 < size < 0.01:
            return f"{self.value:.2e}"
        return f"{self.value:,.{0 if size >= 1000 else 3}f}"

    def __str__(self) -> str:
        return f"{self.what:<52} {self.number:>12} {self.unit:<12} {self.note}".rstrip()


def measure_in_turn(
    script: str, subjects: Sequence[str], repeats: int, args: Sequence[object] = ()
) -> dict[str, list[dict[str, Any]]]:
    """Measures each subject in a process of its own, in several rounds.

    Args:
      script: the script to run with `--measure SUBJECT` and `args`; its last line is JSON.
      subjects: what to measure.
      repeats: the number of rounds; in each, subjects take turns, so that a machine whose speed
        drifts treats all of them alike.
      args: further arguments of the script.

    Returns:
      The results of each subject. If a process fails, its last line is printed, and its result is
      left out.
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
    """Returns the median of a value over the results that have it, or NaN if none has."""
    values = [r[key] for r in results if r.get(key) is not None]
    return statistics.median(values) if values else float("nan")


def seconds_of(call: Callable[[], Any], times: int) -> list[float]:
    """Times calls, after a first one that is not timed."""
    import time

    call()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def median_seconds(call: Callable[[], Any], times: int) -> float:
    """Returns the median time of calls, after a first one that is not timed."""
    return statistics.median(seconds_of(call, times))


def in_parallel(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Runs calls in threads, and returns their results; XLA compiles without Python's lock."""
    with futures.ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def installed(*packages: str) -> bool:
    """Returns whether all of the packages can be imported."""
    return all(util.find_spec(package) is not None for package in packages)


def versions() -> str:
    """Lists the versions of the packages that the results depend on."""
    names = ("jax", "flax", "torch", "transformers", "peft", "pillow")
    found = (
        f"{n} {metadata.version(n)}" for n in names if installed(n if n != "pillow" else "PIL")
    )
    return ", ".join(found)


def machine() -> str:
    """Describes the devices and processors of this machine."""
    import jax

    device, cores = jax.devices()[0], cpu_cores()
    kind = platform.machine() if device.platform == "cpu" else device.device_kind
    return f"{jax.device_count()} × {device.platform} ({kind}), {cores} CPU cores"


def cpu_cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peaks() -> tuple[float, float] | None:
    """Returns FLOP/s in 16 bits and memory bytes/s by the device's data sheet, or None."""
    import jax

    from pgjax.devices.data_sheets import rates_of

    rates = rates_of(jax.devices()[0].device_kind)
    return rates and (rates.flops, rates.memory)


def random_arrays(tree: Any) -> Any:
    """Makes arrays for a tree of shapes on the device, in one program without temporaries.

    Args:
      tree: a tree of `jax.ShapeDtypeStruct`, with or without shardings; a leaf may also be a pytree
        of them, such as a quantized parameter.

    Returns:
      The tree of arrays, which are hashes of each element's index: floats between -0.035 and 0.035
      (with a standard deviation of 0.02), and integers of all values. The floats of a quantized
      parameter are scales, and positive.
    """
    import jax
    import jax.numpy as jnp

    leaves, treedef = jax.tree.flatten(tree, is_leaf=_is_parameter)
    counts = [len(jax.tree.leaves(leaf)) for leaf in leaves]
    scales = [not isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves]
    positive = [s for s, count in zip(scales, counts, strict=True) for _ in range(count)]
    flat, inner = jax.tree.flatten(jax.tree.unflatten(treedef, leaves))

    def make():
        arrays = [_hashed(i, x.shape, x.dtype) for i, x in enumerate(flat)]
        pairs = zip(arrays, positive, strict=True)
        return [jnp.abs(x) if p and jnp.issubdtype(x.dtype, jnp.floating) else x for x, p in pairs]

    made = jax.jit(make, out_shardings=[x.sharding for x in flat])()
    return jax.tree.unflatten(inner, made)


def _is_parameter(x: Any) -> bool:
    return not isinstance(x, dict | list | tuple)


def _hashed(seed: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """Makes values that look random, by mixing the 32 bits of each element's index."""
    import jax
    import jax.numpy as jnp

    x = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    x = x * jnp.uint32(0x9E3779B1) + jnp.uint32((seed * 0x85EBCA6B) % 2**32)
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39), (15, 1)):
        x = (x ^ (x >> jnp.uint32(shift))) * jnp.uint32(factor)
    if jnp.issubdtype(dtype, jnp.floating):
        unit = (x >> jnp.uint32(8)).astype(jnp.float32) * jnp.float32(2**-24)
        return ((unit - 0.5) * 0.07).astype(dtype)
    bits = jnp.iinfo(dtype).bits
    x = (x >> jnp.uint32(32 - bits)).astype(jnp.int32)
    signed = jnp.issubdtype(dtype, jnp.signedinteger)
    return (x - 2 ** (bits - 1) if signed and bits < 32 else x).astype(dtype)
