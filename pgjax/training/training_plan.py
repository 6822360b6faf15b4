"""Plans a training run: the memory and the least time of a step, and what to change.

The training step is compiled without weights, data or tokenizer, also for devices that are absent.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from pgjax.config import RunConfig, parse_config
from pgjax.console import Phase, gib, table
from pgjax.devices.data_sheets import Device, this_device
from pgjax.devices.precision import resolved
from pgjax.devices.targets import compiler_of, target_devices
from pgjax.errors import UserError
from pgjax.loading.model_context import open_sharded_model
from pgjax.recipes import memory_savers
from pgjax.training.largest import largest_batch
from pgjax.training.plan_text import describe
from pgjax.training.step_builder import TrainStepBuilder, make_step_builder
from pgjax.training.step_memory import CompiledStepMemory, compile_memory, estimate_memory

CLOSE = 0.5  # an estimate above this share of a device's memory is checked by a compilation
_STEPS = 1000  # stands for the length of a run that the data decides; memory does not depend on it


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of a training run.

    Attributes:
      text: the plan for people to read, as tables and sentences.
      fits: whether a step fits into the memory of its devices.
      summary: the plan for programs to read, see `summarize`, with the largest batch that fits:
        `largest_batch`, `largest_batch_peak_bytes`, `largest_batch_seconds_at_least` and
        `largest_batch_examples_per_second_at_most`.
    """

    text: str
    fits: bool
    summary: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class LargestBatch:
    """The largest batch size that fits, and what its step needs; 0 and None where none fits."""

    size: int
    memory: CompiledStepMemory | None


def plan(
    config: RunConfig | ConfigDict | Mapping[str, Any],
    device: Device,
    *,
    frames: int = 0,
    largest: bool = True,
) -> Plan:
    """Plans a training run, without weights, data or tokenizer.

    The step is compiled by the compiler of the device if that is installed, and otherwise by the
    compiler of this machine's devices.

    Args:
      config: the run's config, as `pgjax.training.loop.train` takes it.
      device: the kind of device of which the mesh consists.
      frames: number of images in an example; 0 takes it from the config's pipelines.
      largest: whether to search for the largest batch that fits, which takes two or three more
        compilations. Only the device's own compiler can tell.

    Raises:
      UserError: the config does not fit together.
    """
    config = parse_config(config)
    builder = open_step_builder(config, device)
    with Phase(f"compiling the step {_by(builder)}"):
        memory = compile_memory(builder, frames)
    fits = memory.peak <= device.usable_bytes
    most = _largest(config, builder, memory, device, frames) if largest else None
    text = describe(builder, memory, device, frames, most and most.size)
    if not fits:
        text += "\n\n" + _changes(config, device, frames)
    return Plan(text, fits, summarize(builder, memory, device) | _summarize_largest(most, device))


def check_fits(builder: TrainStepBuilder, config: RunConfig) -> None:
    """Stops a run that cannot fit into this machine's memory, before anything is loaded.

    Args:
      builder: the builder of the run's step.
      config: the run's config, as the user gave it.

    Raises:
      UserError: the run does not fit; the message holds the plan, and what to change.
    """
    device = this_device()
    try:
        memory = estimate_memory(builder)
    except UserError:  # custom ops may leave the length of texts unknown
        return
    if CLOSE * device.usable_bytes < memory.peak <= device.usable_bytes:
        with Phase("compiling the step, to see whether it fits"):
            memory = compile_memory(builder)
    if memory.peak > device.usable_bytes:
        raise UserError(
            f"This run does not fit into memory.\n\n{describe(builder, memory, device)}\n\n"
            + _changes(config, device, 0)
        )


def summarize(
    builder: TrainStepBuilder, memory: CompiledStepMemory, device: Device
) -> dict[str, Any]:
    """Returns the plan for programs to read, in bytes, FLOPs and seconds per device and step.

    Values that are not known are None: times without a data sheet of the device, and most values
    if the compiler gave up for lack of memory.
    """
    config, mesh = builder.sharded.config, builder.sharded.mesh
    cost, batch = memory.compiled.cost, config.input.batch_size
    least = memory.bounds(device)
    steps = config.total_steps or None
    return {
        "compiler": memory.compiled.compiler,
        "device": device.name,
        "mesh": dict(mesh.shape),
        "batch_size": batch,
        "fits": memory.peak <= device.usable_bytes,
        "usable_bytes": device.usable_bytes,
        "peak_bytes": memory.peak,
        "arguments_bytes": memory.arguments,
        "temporaries_bytes": memory.temporaries,
        "flops": cost and cost.flops,
        "flops_by_bits": cost and {str(k): v for k, v in cost.flops_of_bits.items()},
        "memory_bytes": cost and cost.memory_bytes,
        "collective_bytes": cost and cost.collective_bytes,
        "collective_counts": cost and cost.collective_counts,
        "seconds": least and {k: getattr(least, k) for k in ("compute", "memory", "network")},
        "seconds_at_least": least and least.seconds,
        "bound_by": least and least.by,
        "examples_per_second_at_most": least and batch / least.seconds,
        "steps": steps,
        "hours_at_least": least and steps and steps * least.seconds / 3600,
        "device_hours_at_least": least and steps and mesh.size * steps * least.seconds / 3600,
    }


def _summarize_largest(largest: LargestBatch | None, device: Device) -> dict[str, Any]:
    memory = largest.memory if largest else None
    least = memory.bounds(device) if memory else None
    return {
        "largest_batch": largest.size if largest else None,
        "largest_batch_peak_bytes": memory.peak if memory else None,
        "largest_batch_seconds_at_least": least.seconds if least else None,
        "largest_batch_examples_per_second_at_most": (
            largest.size / least.seconds if largest and least else None
        ),
    }


def _by(builder: TrainStepBuilder) -> str:
    """Returns what compiles the step, for a message."""
    compiler = compiler_of(builder.sharded.mesh.devices)
    return {"cuda": "by CUDA's compiler", "tpu": "by the TPU's compiler"}.get(compiler, "for a CPU")


def _largest(
    config: RunConfig,
    builder: TrainStepBuilder,
    memory: CompiledStepMemory,
    device: Device,
    frames: int,
) -> LargestBatch | None:
    """Searches for the largest batch that fits, which devices and gradient accumulation divide.

    Returns None if a CPU's compiler stands for the device's, because its figures are too far off.
    """
    if memory.compiled.compiler == "cpu":
        return None
    each = builder.sharded.mesh.shape["data"] * config.grad_accum_steps
    tried = {config.input.batch_size: memory}

    def peak(batch: int) -> int:
        changed = dataclasses.replace(
            config, input=dataclasses.replace(config.input, batch_size=batch)
        )
        with Phase(f"compiling with a batch of {batch}"):
            tried[batch] = compile_memory(open_step_builder(changed, device), frames)
        return tried[batch].peak

    known = {config.input.batch_size: memory.peak}
    size = largest_batch(peak, known, each, device.usable_bytes)
    return LargestBatch(size, tried.get(size))


def open_step_builder(config: RunConfig | Mapping[str, Any], device: Device) -> TrainStepBuilder:
    """Opens the training step of a config for devices of another kind, which may be absent.

    If the compiler of the device is not installed, this machine's devices stand for them.

    Args:
      config: the run's config; a plain dict is parsed first.
      device: the kind of device of which the mesh consists.

    Raises:
      UserError: the config does not fit together, or the mesh needs more devices than can stand for
        it on this machine.
    """
    config = resolved(parse_config(config), device.precision)
    mesh = config.mesh
    wanted = mesh.data * mesh.model if min(mesh.data, mesh.model) > 0 else jax.device_count()
    devices = target_devices(device, wanted)
    if devices is None and wanted > jax.device_count():
        raise UserError(
            f"The mesh needs {wanted} devices, but this machine has {jax.device_count()}, and the "
            f"compiler of {device.name} is not installed."
        )
    sharded = open_sharded_model(config, devices or jax.devices()[:wanted])
    return make_step_builder(sharded, config.total_steps or _STEPS)


def _changes(config: RunConfig, device: Device, frames: int) -> str:
    """Returns a table of changes to the config that save memory, with the peak that each gives.

    Only changes whose estimate fits are compiled.
    """
    rows = []
    for flags, changed in memory_savers(config).items():
        try:
            builder = open_step_builder(changed, device)
            memory = estimate_memory(builder, frames)
            if may_fit := memory.peak <= device.usable_bytes:
                with Phase(f"compiling with {flags}"):
                    memory = compile_memory(builder, frames)
        except UserError:  # the batch cannot be split like that, or the mesh is too large
            continue
        least = "" if may_fit else "at least "
        verdict = "fits" if memory.peak <= device.usable_bytes else "does not fit"
        rows.append((flags, f"{least}{gib(memory.peak)}", verdict))
    if not rows:
        return "No single change of the config makes the run smaller."
    return table(("what to change", "peak", ""), rows)
