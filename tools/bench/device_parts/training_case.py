"""A training step of the project: time, utilisation, and memory beside what was planned."""

import argparse
import dataclasses
import math
import statistics
import time
from typing import Any

import training
from common import peaks

from device_parts.sizes import SIZES, Training

GIB = 2**30


def run(case: Any, emit: Any) -> None:
    """Compiles the step; and unless that was all, takes some."""
    import jax

    shape = Training(**case.options["shape"])
    args = arguments(case.size, shape)
    step = training.compile_step(args, shape.mode)
    planned = case.options.get("planned") or _planned(step)
    if case.prepare:
        emit.fact("planned", planned)
        emit.fact("compile_seconds", step.seconds)
        return
    trace, compile_ = case.options.get("compile_seconds") or step.seconds
    name = label(shape)
    run_one, facts = training.run_step(args, step)
    for _ in range(2):
        loss = run_one()
    seconds = []
    for _ in range(args.steps):
        start = time.perf_counter()
        loss = run_one()
        seconds.append(time.perf_counter() - start)
    each = statistics.median(seconds)
    model = step.builder.sharded.model
    note = f"{min(seconds):.4f} to {max(seconds):.4f}; {facts['trains']:,} train, "
    note += f"remat {shape.remat}, tower {model.img_dtype.name}, decoder {model.llm_dtype.name}; "
    note += f"loss {loss:.2f}"
    emit.row(name, each, "s a step", note, ok=math.isfinite(loss))
    emit.row(f"{name}: rate", shape.batch / each, "examples/s")
    emit.fact("examples_per_s", shape.batch / each)
    if top := peaks():
        share = training.flops(args, shape.mode) / each / top[0]
        emit.row(f"{name}: model FLOPs utilisation", 100 * share, "% of peak")
    parts = {k: f"{v / GIB:.2f}" for k, v in planned.items() if k != "peak"}
    note = ", ".join(f"{k} {v}" for k, v in parts.items())
    emit.row(f"{name}: planned peak", planned["peak"] / GIB, "GiB", note)
    stats = jax.local_devices()[0].memory_stats() or {}
    if found := stats.get("peak_bytes_in_use"):
        limit = f", of {stats['bytes_limit'] / GIB:.2f} GiB" if "bytes_limit" in stats else ""
        note = f"{found / planned['peak']:.3f} of what was planned{limit}"
        emit.row(f"{name}: peak of the allocator", found / GIB, "GiB", note)
    note = f"and {trace:.1f} s of tracing"
    if "compile_seconds" in case.options:
        note += f"; {step.seconds[1]:.1f} s to read it from the cache"
    emit.row(f"{name}: compiling", compile_, "s", note)


def arguments(size: str, shape: Training) -> argparse.Namespace:
    """As tools/bench/training.py takes them."""
    sizes, parser = SIZES[size], argparse.ArgumentParser()
    training.add_flags(parser)
    flags = {"size": size, "res": shape.res, "batch": shape.batch, "remat": shape.remat,
             "text_len": sizes.text, "target": sizes.target, "steps": sizes.steps}  # fmt: skip
    return parser.parse_args([f"--{key}={value}" for key, value in flags.items()])


def label(shape: Training) -> str:
    """For people."""
    return f"step, {shape.name}, {shape.res} px, batch {shape.batch}"


def _planned(step: Any) -> dict[str, int]:
    """Bytes, by what they are."""
    found = step.planned()
    parts = {"trainable": found.trainable, "frozen": found.frozen, "optimizer": found.optimizer,
             "batch": found.batch, "temporaries": found.temporaries}  # fmt: skip
    return {**parts, "peak": found.peak}


def options(shape: Training) -> dict[str, Any]:
    """Of a case."""
    return {"shape": dataclasses.asdict(shape)}
