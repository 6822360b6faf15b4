"""The memory plan of a run: what a step needs, whether that fits, and what to change."""

import math
from collections.abc import Mapping
from typing import Any

import jax

from pgjax.console import Phase, gib, table
from pgjax.devices.precision import resolved
from pgjax.devices.table import Device, this_device
from pgjax.errors import UserError
from pgjax.inference.session import open_layout
from pgjax.training.memory import Needs, abstract_batch, host_bytes, needs
from pgjax.training.program import Program, make_program

Config = Mapping[str, Any]
CLOSE = 0.5  # share of a device's memory from which the exact figure is worth a compilation
_STEPS = 1000  # of a run whose length the data decides; nothing in memory depends on it


def plan(
    config: Config, lighter: Mapping[str, Config], device: Device, *, frames: int = 0
) -> tuple[str, bool]:
    """Plans a run, without weights, data or tokenizer.

    Args:
      config: full, as for `train`.
      lighter: configs that need less, by the flags that make them.
      device: what each device of the mesh is.
      frames: images per example; 0 for what the config's operations say.

    Returns:
      The table with what to change, and whether the run fits.

    Raises:
      UserError: a config that does not fit together.
    """
    program = _program(config, device)
    with Phase("compiling the step"):
        found = needs(program, frames=frames)
    text = describe(program, found, device, frames)
    fits = found.peak <= device.usable_bytes
    if not fits:
        text += "\n\n" + _changes(lighter, device, frames)
    return text, fits


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


def describe(program: Program, found: Needs, device: Device, frames: int = 0) -> str:
    """The plan as a table, per device."""
    layout, config = program.layout, program.layout.config
    batch = abstract_batch(program, frames)
    image, text = batch["image"].shape, batch["text"].shape
    images = image[1] if len(image) == 5 else 1
    mesh = layout.mesh.shape
    optimizer = config["optimizer"]
    rest = None
    if found.temporaries is not None:
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
        ("peak, of the compiled step" if rest is not None else "peak, at least", found.peak),
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
    if device.name == "cpu":
        lines.append(
            "A CPU's kernels take scratch memory that the compiler does not count: leave room."
        )
    elif rest is not None and jax.default_backend() == "cpu":
        lines.append(
            "Compiled for a CPU; a GPU's or TPU's compiler arranges temporaries differently, so "
            "leave a tenth."
        )
    return "\n".join(lines)


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


def _program(config: Config, device: Device) -> Program:
    """On as many of the devices that are there, or are made believe, as the mesh takes."""
    config = resolved(config, device.precision)
    mesh = config["mesh"]
    wanted = mesh["data"] * mesh["model"] if min(mesh.values()) > 0 else jax.device_count()
    if wanted > jax.device_count():
        raise UserError(f"{wanted} devices are needed, and there are {jax.device_count()}.")
    layout = open_layout(config, jax.devices()[:wanted])
    return make_program(layout, config["total_steps"] or _STEPS)


def _changes(lighter: Mapping[str, Config], device: Device, frames: int) -> str:
    """What each change would give; only what could fit is compiled."""
    rows = []
    for flags, config in lighter.items():
        try:
            program = _program(config, device)
            found = needs(program, frames=frames, compiled=False)
            if found.peak <= device.usable_bytes:
                with Phase(f"compiling with {flags}"):
                    found = needs(program, frames=frames)
        except UserError:  # a batch that does not split so, or more devices than there are
            continue
        least = "" if found.temporaries is not None else "at least "
        verdict = "fits" if found.peak <= device.usable_bytes else "does not fit"
        rows.append((flags, f"{least}{gib(found.peak)}", verdict))
    if not rows:
        return "Nothing that could be changed alone makes it smaller."
    return table(("what to change", "peak", ""), rows)
