"""The plan of a run: what a step needs, whether that fits, how long it takes at least, and what
to change.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax

from pgjax.console import Phase, duration, gib, si, table
from pgjax.devices.bounds import Bounds, bounds
from pgjax.devices.compiled import figures_of
from pgjax.devices.precision import resolved
from pgjax.devices.table import Device, Gpu, Rates, this_device
from pgjax.devices.targets import compiler_of, target_devices
from pgjax.errors import UserError
from pgjax.inference.session import open_layout
from pgjax.training.largest import largest_batch
from pgjax.training.memory import Needs, abstract_batch, host_bytes, loss_chunks, needs
from pgjax.training.program import Program, make_program

Config = Mapping[str, Any]
CLOSE = 0.5  # share of a device's memory from which the exact figure is worth a compilation
_STEPS = 1000  # of a run whose length the data decides; nothing in memory depends on it


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run needs: for people, whether it fits, and for programs."""

    text: str
    fits: bool
    report: dict[str, Any]


def plan(
    config: Config,
    lighter: Mapping[str, Config],
    device: Device,
    *,
    frames: int = 0,
    largest: bool = True,
) -> Plan:
    """Plans a run, without weights, data or tokenizer.

    The step is compiled by the device's own compiler where that is installed, else by that of
    the devices that are there.

    Args:
      config: full, as for `train`.
      lighter: configs that need less, by the flags that make them.
      device: what each device of the mesh is.
      frames: images per example; 0 for what the config's operations say.
      largest: whether to look for the largest batch that fits, which takes two or three more
        compilations, by the device's own compiler only.

    Raises:
      UserError: a config that does not fit together.
    """
    program = open_program(config, device)
    with Phase(f"compiling the step {_by(program)}"):
        found = needs(program, frames=frames)
    fits = found.peak <= device.usable_bytes
    most, full = _largest(config, program, found, device, frames) if largest else (None, None)
    text = describe(program, found, device, frames, most)
    if not fits:
        text += "\n\n" + _changes(lighter, device, frames)
    figures = report(program, found, device)
    least = full and _bounds(full, device)
    figures |= {
        "largest_batch": most,
        "largest_batch_peak_bytes": full and full.peak,
        "largest_batch_seconds_at_least": least and least.seconds,
        "largest_batch_examples_per_second_at_most": least and most / least.seconds,
    }
    return Plan(text, fits, figures)


def check_fits(program: Program, lighter: Mapping[str, Config]) -> None:
    """Stops a run that cannot fit into this machine's memory, before anything is loaded.

    Raises:
      UserError: the plan, and what to change.
    """
    device = this_device()
    try:
        found = needs(program, compiled=False)
    except UserError:  # operations of the user's own, whose text length nobody can know
        return
    if found.peak > CLOSE * device.usable_bytes and found.peak <= device.usable_bytes:
        with Phase("compiling the step, to see whether it fits"):
            found = needs(program)
    if found.peak > device.usable_bytes:
        raise UserError(
            f"this run does not fit into memory.\n\n{describe(program, found, device)}\n\n"
            + _changes(lighter, device, 0)
        )


def step_line(program: Program, step: jax.stages.Compiled, length: int) -> str | None:
    """One line about a step that is compiled for the devices that are there; None on a CPU.

    Args:
      program: that made it.
      step: compiled.
      length: of the texts, in tokens.
    """
    devices = program.layout.mesh.devices
    if (compiler := compiler_of(devices)) == "cpu":
        return None
    made = figures_of(step, compiler, loss_chunks(program, length))
    line = (
        f"Each device needs {gib(made.peak)} for a step: {gib(made.arguments)} that stay and "
        f"{gib(made.temporaries)} for the time of the step; it does {si(made.cost.flops, 'FLOP')}"
        f", moves {si(made.cost.memory_bytes, 'B')} in its memory and sends "
        f"{si(sum(made.cost.collective_bytes.values()), 'B')}"
    )
    rates = this_device().rates
    return f"{line}, which takes {_least(bounds(made.cost, rates))} at least." if rates else line


def report(program: Program, found: Needs, device: Device) -> dict[str, Any]:
    """The plan for programs, in bytes, FLOPs and seconds, per device and step.

    What is not known is None: times without a data sheet, and all that a compiler which gave up
    for lack of memory did not say.
    """
    config, mesh = program.layout.config, program.layout.mesh
    made, batch = found.compiled, config["input"]["batch_size"]
    cost = made.cost
    least = _bounds(found, device)
    steps = config["total_steps"] or None
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


def describe(
    program: Program,
    found: Needs,
    device: Device,
    frames: int = 0,
    largest: int | None = None,
) -> str:
    """The plan as tables, per device."""
    layout, config = program.layout, program.layout.config
    batch = abstract_batch(program, frames)
    image, text = batch["image"].shape, batch["text"].shape
    images = image[1] if len(image) == 5 else 1
    mesh = layout.mesh.shape
    optimizer = config["optimizer"]
    rest = None
    if found.compiled and found.compiled.cost:
        rest = max(0, found.temporaries - found.gradients - found.logits)
    numbers = [
        sum(math.prod(s) for n, s in layout.shapes.items() if (n in program.multipliers) == trains)
        for trains in (True, False)
    ]
    rows = [
        (f"trainable parameters ({numbers[0]:,})", found.trainable),
        (f"frozen parameters ({numbers[1]:,})", found.frozen),
        (f"optimizer state ({optimizer['name']})", found.optimizer),
        ("batch", found.batch),
        ("temporary: gradients", found.gradients),
        (f"temporary: logits ({config['loss_chunk']} columns)", found.logits),
        ("temporary: activations and workspace", rest),
        ("peak, of the compiled step" if found.compiled else "peak, at least", found.peak),
        (f"usable on {device.name}", device.usable_bytes),
    ]
    verdict = "fits" if found.peak <= device.usable_bytes else "does NOT fit"
    lines = [
        f"Batch {text[0]} × {images} image{'s' * (images > 1)} of {config['model']['res']} px × "
        f"{text[1]} tokens in {config['grad_accum_steps']} part(s), remat "
        f"{config['model']['remat']}, on {layout.mesh.size} × {device.name} (data "
        f"{mesh['data']} × model {mesh['model']}).",
        precision_line(program),
        "",
        table(("per device", ""), [(a, "–" if b is None else gib(b)) for a, b in rows]),
        f"It {verdict}: {gib(found.peak)} of {gib(device.usable_bytes)}.",
        _host_line(program, found, device),
    ]
    if largest is not None:
        lines.append(_largest_line(largest, text[0]))
    if found.compiled:
        lines.append(_compiler_line(found, device))
        if found.compiled.cost and device.rates:
            lines += ["", *_times(program, found, device.rates)]
    return "\n".join(lines)


def _times(program: Program, found: Needs, rates: Rates) -> list[str]:
    """What a step does, and how long that takes at least."""
    config, mesh, cost = program.layout.config, program.layout.mesh, found.compiled.cost
    least = bounds(cost, rates)
    rows = [
        ("products", si(cost.flops, "FLOP"), duration(least.compute)),
        ("memory traffic", si(cost.memory_bytes, "B"), duration(least.memory)),
    ]
    sent = sum(cost.collective_bytes.values())
    for kind, size in cost.collective_bytes.items():
        share = least.network and sent and least.network * size / sent
        seconds = "unknown" if least.network is None else duration(share or 0)
        rows.append((f"sent: {kind}, {cost.collective_counts[kind]:g} ×", si(size, "B"), seconds))
    batch, steps = config["input"]["batch_size"], config["total_steps"]
    per_second = batch / least.seconds
    if steps:
        total, what = steps * least.seconds, f"the {steps:,} steps"
    else:
        total, what = 1000 / per_second, "1,000 examples"
    return [
        table(("per device and step", "", "at least"), rows),
        f"By the data sheet a step takes {_least(least)} or more, so there are at most "
        f"{per_second:.3g} examples/s; {what} take {duration(total)}, "
        f"{mesh.size * total / 3600:.3g} device-hours.",
    ]


def _least(least: Bounds) -> str:
    return f"{duration(least.seconds)} ({least.by})"


def _compiler_line(found: Needs, device: Device) -> str:
    compiler = found.compiled.compiler
    if compiler != "cpu":
        name = {"cuda": "CUDA", "tpu": "the TPU"}.get(compiler, compiler)
        line = f"Compiled by the compiler of {name}"
        return (
            f"{line}, which gave up for lack of memory."
            if not found.compiled.cost
            else (f"{line}; the peak is the one that it reports.")
        )
    if device.name == "cpu":
        return "A CPU's kernels take scratch memory that the compiler does not count: leave room."
    line = (
        "Compiled for a CPU; a GPU's or TPU's compiler arranges temporaries differently, so leave "
        "a tenth."
    )
    if device.target is None:
        return line
    extra = "cuda12" if isinstance(device.target, Gpu) else "tpu"
    return (
        f"{line} The extra `{extra}` brings the compiler of {device.name}: pip install "
        f"'pgjax[{extra}]'."
    )


def _by(program: Program) -> str:
    compiler = compiler_of(program.layout.mesh.devices)
    return {"cuda": "by CUDA's compiler", "tpu": "by the TPU's compiler"}.get(compiler, "for a CPU")


def _bounds(found: Needs, device: Device) -> Bounds | None:
    cost = found.compiled.cost
    return bounds(cost, device.rates) if cost and device.rates else None


def _largest(
    config: Config, program: Program, found: Needs, device: Device, frames: int
) -> tuple[int | None, Needs | None]:
    """The largest batch that fits, of those that devices and parts divide, and what it needs.

    (None, None) where a CPU's compiler stands for the device's, (0, None) where no batch fits.
    """
    if found.compiled.compiler == "cpu":
        return None, None
    each = program.layout.mesh.shape["data"] * config["grad_accum_steps"]
    tried = {config["input"]["batch_size"]: found}

    def peak(batch: int) -> int:
        changed = {**config, "input": {**config["input"], "batch_size": batch}}
        with Phase(f"compiling with a batch of {batch}"):
            tried[batch] = needs(open_program(changed, device), frames=frames)
        return tried[batch].peak

    known = {batch: needed.peak for batch, needed in tried.items()}
    largest = largest_batch(peak, known, each, device.usable_bytes)
    return largest, tried.get(largest)


def _largest_line(largest: int, batch: int) -> str:
    if not largest:
        return "No batch fits, however small."
    return f"The largest batch that fits is {largest}" + (
        ", which is this one." if largest == batch else "."
    )


def precision_line(program: Program) -> str:
    """One line about dtypes."""
    model, config = program.layout.model, program.layout.config
    scaled = "; the loss is scaled" if program.scaled else ""
    return (
        f"Computes in {model.img_dtype} (image tower) and {model.llm_dtype} (decoder); parameters "
        f"are {config['trainable_dtype']} where they train, "
        f"{config['frozen_dtype']} where they are frozen{scaled}."
    )


def _host_line(program: Program, found: Needs, device: Device) -> str:
    loading = host_bytes(program)
    if device.name == "cpu":
        return f"Loading needs about {gib(loading)} beside that."
    line = f"Loading needs about {gib(loading)} of the host's memory"
    if device.host_bytes is None:
        return line + "."
    verdict = "fits" if loading <= device.host_bytes else "does NOT fit"
    return f"{line}, which {verdict}: there are {gib(device.host_bytes)}."


def open_program(config: Config, device: Device) -> Program:
    """The step of a config, on devices of the target's compiler.

    Where that is not installed, on as many of the devices that are there as the mesh takes.

    Raises:
      UserError: there are too few, or a config that does not fit together.
    """
    config = resolved(config, device.precision)
    mesh = config["mesh"]
    wanted = mesh["data"] * mesh["model"] if min(mesh.values()) > 0 else jax.device_count()
    devices = target_devices(device, wanted)
    if devices is None and wanted > jax.device_count():
        raise UserError(f"{wanted} devices are needed, and there are {jax.device_count()}.")
    layout = open_layout(config, devices or jax.devices()[:wanted])
    return make_program(layout, config["total_steps"] or _STEPS)


def _changes(lighter: Mapping[str, Config], device: Device, frames: int) -> str:
    """What each change would give; only what could fit is compiled."""
    rows = []
    for flags, config in lighter.items():
        try:
            program = open_program(config, device)
            found = needs(program, frames=frames, compiled=False)
            if found.peak <= device.usable_bytes:
                with Phase(f"compiling with {flags}"):
                    found = needs(program, frames=frames)
        except UserError:  # a batch that does not split so, or more devices than there are
            continue
        least = "" if found.compiled else "at least "
        verdict = "fits" if found.peak <= device.usable_bytes else "does not fit"
        rows.append((flags, f"{least}{gib(found.peak)}", verdict))
    if not rows:
        return "Nothing that could be changed alone makes it smaller."
    return table(("what to change", "peak", ""), rows)
