"""Compares the memory plan of a training step with the memory that the step takes.

    python tools/bench/plan_check.py [--size mid] [--adapt attention] [--res 224] [--batch 8]

A run with texts of 128 tokens is planned, and then takes steps in this process. On a CPU, the
growth of the process's resident memory is measured; on a GPU, the allocator's peak. With --device,
a third figure is the plan by that device's description, as `pgjax plan --device` makes it; on such
a device all three should agree. This runs on Linux only.
"""

import argparse
import ctypes
import os
import pathlib

import jax
import jax.numpy as jnp
from common import SIZES

from pgjax.console import gib
from pgjax.devices.data_sheets import Device, get_device
from pgjax.loading.model_context import open_sharded_model
from pgjax.recipes import adapted, parse_arg, transfer
from pgjax.training.step_builder import TrainStepBuilder, make_step_builder
from pgjax.training.step_memory import abstract_batch, compile_memory
from pgjax.training.training_plan import open_step_builder


def program_of(
    size: str, res: int, adapt: str, optimizer: str, batch: int, device: Device | None = None
) -> TrainStepBuilder:
    """Builds the training step of a model in a mode, for this device or one by description."""
    c = transfer(
        "plan_check", train={}, evals={}, prompt="", target="", variant="3b", res=res, mode=adapt,
        text_len=128, steps=100, batch_size=batch, lr=1e-5,
    )  # fmt: skip
    for tower in ("img", "llm"):
        c.model[tower] = parse_arg(None, **SIZES[size][tower])
    c = adapted(c)
    if optimizer:
        c.optimizer.name, c.optimizer.args = optimizer, parse_arg(None)
    if device:
        c.mesh.data = 1
        return open_step_builder(c.to_dict(), device)
    return make_step_builder(open_sharded_model(c.to_dict()), c.total_steps)


def measured(builder: TrainStepBuilder, steps: int) -> int:
    """Returns the most bytes that arguments and a few steps add to what is in use before."""
    state, frozen = builder.abstract()
    batch = abstract_batch(builder)
    step = builder.lower(state, frozen, batch).compile()
    jax.clear_caches()
    _trim()
    before = _resident("VmRSS")
    frozen = {name: _made(x) for name, x in frozen.items()}
    state = builder.state({name: _made(x) for name, x in state.params.items()})
    batch = {name: _made(x) for name, x in batch.items()}
    batch["mask_loss"] = jnp.ones_like(batch["mask_loss"])
    jax.block_until_ready((state, frozen, batch))
    _trim()
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # This resets the peak.
    for _ in range(steps):
        state, _ = step(state, frozen, batch)
        jax.block_until_ready(state)
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    return _resident("VmHWM") - before


def _made(x):
    """Makes an array whose pages are all in memory."""
    return jax.tree.map(
        lambda leaf: jax.device_put(jnp.full(leaf.shape, 0.01).astype(leaf.dtype), leaf.sharding), x
    )


def _trim() -> None:
    ctypes.CDLL(None).malloc_trim(0)


def _resident(key: str) -> int:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def main(argv: list[str] | None = None) -> float:
    """Prints the figures, and returns the ratio of the measured to the planned one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="mid", choices=SIZES, help="the model")
    parser.add_argument("--adapt", default="", help="what trains, such as attention")
    parser.add_argument("--res", type=int, default=224, help="the resolution in pixels")
    parser.add_argument("--optimizer", default="", help="the optimizer's name")
    parser.add_argument("--batch", type=int, default=8, help="examples per step")
    parser.add_argument("--steps", type=int, default=2, help="the steps to take")
    parser.add_argument("--device", help="a device to plan for by its description as well")
    args = parser.parse_args(argv)
    described = ""
    if args.device:
        parts = (args.size, args.res, args.adapt, args.optimizer, args.batch)
        made = compile_memory(program_of(*parts, get_device(args.device)))
        described = f"{args.device} described ({made.compiled.compiler}) {gib(made.peak)}, "
    builder = program_of(args.size, args.res, args.adapt, args.optimizer, args.batch)
    planned, found = compile_memory(builder).peak, measured(builder, args.steps)
    print(
        f"{jax.local_devices()[0].device_kind}, {args.size}, mode {args.adapt or 'full'}, "
        f"{args.res} px, batch {args.batch}: "
        f"{described}planned {gib(planned)}, measured {gib(found)}, ratio {found / planned:.3f}"
    )
    return found / planned


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "")
    main()
