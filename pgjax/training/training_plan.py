"""The plan of a run: what a step needs, whether that fits, how long it takes, what to change."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from pgjax.config import RunConfig, parse_config
from pgjax.console import Phase, gib, table
from pgjax.devices.bounds import Bounds, bounds
from pgjax.devices.data_sheets import Device, this_device
from pgjax.devices.precision import resolved
from pgjax.devices.targets import compiler_of, target_devices
from pgjax.errors import UserError
from pgjax.loading.model_context import open_sharded_model
from pgjax.recipes import memory_savers
from pgjax.training.largest import largest_batch
from pgjax.training.plan_text import describe
from pgjax.training.step_builder import TrainStepBuilder, make_step_builder
from pgjax.training.step_memory import Needs, needs

CLOSE = 0.5  # share of a device's memory from which the exact figure is worth a compilation
_STEPS = 1000  # of a run whose length the data decides; nothing in memory depends on it


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run needs: for people, whether it fits, and for programs."""

    text: str
    fits: bool
    report: dict[str, Any]


def plan(
    config: RunConfig | Mapping[str, Any],
    device: Device,
    *,
    frames: int = 0,
    largest: bool = True,
) -> Plan:
    """Plans a run, without weights, data or tokenizer.

    The step is compiled by the device's own compiler where that is installed, else by that of
    the devices that are there.

    Args:
      config: as for `train`.
      device: what each device of the mesh is.
      frames: images per example; 0 for what the config's operations say.
      largest: whether to look for the largest batch that fits, which takes two or three more
        compilations, by the device's own compiler only.

    Raises:
      UserError: a config that does not fit together.
    """
    config = parse_config(config)
    builder = open_step_builder(config, device)
    with Phase(f"compiling the step {_by(builder)}"):
        found = needs(builder, frames=frames)
    fits = found.peak <= device.usable_bytes
    most, full = _largest(config, builder, found, device, frames) if largest else (None, None)
    text = describe(builder, found, device, frames, most)
    if not fits:
        text += "\n\n" + _changes(config, device, frames)
    figures = report(builder, found, device)
    least = full and _bounds(full, device)
    figures |= {
        "largest_batch": most,
        "largest_batch_peak_bytes": full and full.peak,
        "largest_batch_seconds_at_least": least and least.seconds,
        "largest_batch_examples_per_second_at_most": least and most / least.seconds,
    }
    return Plan(text, fits, figures)


def check_fits(builder: TrainStepBuilder, config: RunConfig) -> None:
    """Stops a run that cannot fit into this machine's memory, before anything is loaded.

    Args:
      builder: of the run's step.
      config: of the run, in which `auto` is still there.

    Raises:
      UserError: the plan, and what to change.
    """
    device = this_device()
    try:
        found = needs(builder, compiled=False)
    except UserError:  # operations of the user's own, whose text length nobody can know
        return
    if found.peak > CLOSE * device.usable_bytes and found.peak <= device.usable_bytes:
        with Phase("compiling the step, to see whether it fits"):
            found = needs(builder)
    if found.peak > device.usable_bytes:
        raise UserError(
            f"this run does not fit into memory.\n\n{describe(builder, found, device)}\n\n"
            + _changes(config, device, 0)
        )


def report(builder: TrainStepBuilder, found: Needs, device: Device) -> dict[str, Any]:
    """The plan for programs, in bytes, FLOPs and seconds, per device and step.

    What is not known is None: times without a data sheet, and all that a compiler which gave up
    for lack of memory did not say.
    """
    config, mesh = builder.sharded.config, builder.sharded.mesh
    made, batch = found.compiled, config.input.batch_size
    cost = made.cost
    least = _bounds(found, device)
    steps = config.total_steps or None
    return {
        "compiler": made.compiler,
        "device": device.name,
        "mesh": dict(mesh.shape),
        "batch_size": batch,
        "fits": found.peak <= device.usable_bytes,
        "usable_bytes": device.usable_bytes,
        "peak_bytes": found.peak,
        "arguments_bytes": found.arguments,
        "temporaries_bytes": found.temporaries,
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


def _by(builder: TrainStepBuilder) -> str:
    compiler = compiler_of(builder.sharded.mesh.devices)
    return {"cuda": "by CUDA's compiler", "tpu": "by the TPU's compiler"}.get(compiler, "for a CPU")


def _bounds(found: Needs, device: Device) -> Bounds | None:
    cost = found.compiled.cost
    return bounds(cost, device.rates) if cost and device.rates else None


def _largest(
    config: RunConfig, builder: TrainStepBuilder, found: Needs, device: Device, frames: int
) -> tuple[int | None, Needs | None]:
    """The largest batch that fits, of those that devices and parts divide, and what it needs.

    (None, None) where a CPU's compiler stands for the device's, (0, None) where no batch fits.
    """
    if found.compiled.compiler == "cpu":
        return None, None
    each = builder.sharded.mesh.shape["data"] * config.grad_accum_steps
    tried = {config.input.batch_size: found}

    def peak(batch: int) -> int:
        changed = dataclasses.replace(
            config, input=dataclasses.replace(config.input, batch_size=batch)
        )
        with Phase(f"compiling with a batch of {batch}"):
            tried[batch] = needs(open_step_builder(changed, device), frames=frames)
        return tried[batch].peak

    known = {batch: needed.peak for batch, needed in tried.items()}
    largest = largest_batch(peak, known, each, device.usable_bytes)
    return largest, tried.get(largest)


def open_step_builder(config: RunConfig | Mapping[str, Any], device: Device) -> TrainStepBuilder:
    """The step of a config, on devices of the target's compiler.

    Where that is not installed, on as many of the devices that are there as the mesh takes.

    Raises:
      UserError: there are too few, or a config that does not fit together.
    """
    config = resolved(parse_config(config), device.precision)
    mesh = config.mesh
    wanted = mesh.data * mesh.model if min(mesh.data, mesh.model) > 0 else jax.device_count()
    devices = target_devices(device, wanted)
    if devices is None and wanted > jax.device_count():
        raise UserError(f"{wanted} devices are needed, and there are {jax.device_count()}.")
    sharded = open_sharded_model(config, devices or jax.devices()[:wanted])
    return make_step_builder(sharded, config.total_steps or _STEPS)


def _changes(config: RunConfig, device: Device, frames: int) -> str:
    """What each change of the config would give; only what could fit is compiled."""
    rows = []
    for flags, changed in memory_savers(config).items():
        try:
            builder = open_step_builder(changed, device)
            found = needs(builder, frames=frames, compiled=False)
            if found.peak <= device.usable_bytes:
                with Phase(f"compiling with {flags}"):
                    found = needs(builder, frames=frames)
        except UserError:  # a batch that does not split so, or more devices than there are
            continue
        least = "" if found.compiled else "at least "
        verdict = "fits" if found.peak <= device.usable_bytes else "does not fit"
        rows.append((flags, f"{least}{gib(found.peak)}", verdict))
    if not rows:
        return "Nothing that could be changed alone makes it smaller."
    return table(("what to change", "peak", ""), rows)
