"""Describes a training run and the plan of it, for people to read."""

import contextlib
import math

import jax

from pgjax.console import duration, gib, si, table
from pgjax.devices.bounds import Bounds, bounds
from pgjax.devices.compiled import Figures, figures_of
from pgjax.devices.data_sheets import Device, Gpu, Rates, this_device
from pgjax.devices.program_cost import Cost
from pgjax.devices.targets import compiler_of
from pgjax.errors import UserError
from pgjax.models.attention import Shape, chosen
from pgjax.training.step_builder import TrainStepBuilder
from pgjax.training.step_memory import (
    CompiledStepMemory,
    StepMemory,
    abstract_batch,
    host_bytes,
    loss_chunks,
)


def describe(
    builder: TrainStepBuilder,
    memory: StepMemory,
    device: Device,
    frames: int = 0,
    largest: int | None = None,
) -> str:
    """Describes the plan of a training run in tables and sentences, per device.

    Args:
      builder: the builder of the run's step.
      memory: what the step needs.
      device: the kind of device of which the mesh consists.
      frames: number of images in an example; 0 takes it from the config's pipelines.
      largest: the largest batch that fits, 0 for none; None leaves it out.
    """
    batch = abstract_batch(builder, frames)["text"].shape[0]
    verdict = "fits" if memory.peak <= device.usable_bytes else "does NOT fit"
    lines = [
        _setting_line(builder, device, frames),
        precision_line(builder),
        attention_line(builder),
        "",
        _memory_table(builder, memory, device),
        f"It {verdict}: {gib(memory.peak)} of {gib(device.usable_bytes)}.",
        _host_line(builder, device),
    ]
    if largest is not None:
        lines.append(_largest_line(largest, batch))
    if isinstance(memory, CompiledStepMemory):
        lines.append(_compiler_line(memory.compiled, device))
        if (cost := memory.compiled.cost) and device.rates:
            lines += ["", *_times(builder, cost, device.rates)]
    return "\n".join(lines)


def _setting_line(builder: TrainStepBuilder, device: Device, frames: int) -> str:
    """Returns a sentence that gives the size of a batch and the mesh."""
    config, mesh = builder.sharded.config, builder.sharded.mesh
    batch = abstract_batch(builder, frames)
    image, (rows, tokens) = batch["image"].shape, batch["text"].shape
    images = image[1] if len(image) == 5 else 1
    return (
        f"Batch {rows} × {images} image{'s' * (images > 1)} of {config.model.res} px × "
        f"{tokens} tokens in {config.grad_accum_steps} part(s), remat {config.model.remat}, on "
        f"{mesh.size} × {device.name} (data {mesh.shape['data']} × model {mesh.shape['model']})."
    )


def _memory_table(builder: TrainStepBuilder, memory: StepMemory, device: Device) -> str:
    """Returns a table of what takes memory on a device."""
    config, shapes = builder.sharded.config, builder.sharded.shapes
    trainable, frozen = (
        sum(math.prod(s) for n, s in shapes.items() if (n in builder.multipliers) == trains)
        for trains in (True, False)
    )
    rest, peak = "–", "peak, at least"
    if isinstance(memory, CompiledStepMemory):
        peak = "peak, of the compiled step"
        if memory.compiled.cost:
            rest = gib(max(0, memory.temporaries - memory.gradients - memory.logits))
    rows = [
        (f"trainable parameters ({trainable:,})", gib(memory.trainable)),
        (f"frozen parameters ({frozen:,})", gib(memory.frozen)),
        (f"optimizer state ({config.optimizer.name})", gib(memory.optimizer)),
        ("batch", gib(memory.batch)),
        ("temporary: gradients", gib(memory.gradients)),
        (f"temporary: logits ({config.loss_chunk} tokens at a time)", gib(memory.logits)),
        ("temporary: activations and workspace", rest),
        (peak, gib(memory.peak)),
        (f"usable on {device.name}", gib(device.usable_bytes)),
    ]
    return table(("per device", ""), rows)


def step_line(builder: TrainStepBuilder, step: jax.stages.Compiled, length: int) -> str | None:
    """Describes a compiled step in one line: its memory, its work and its least time.

    Args:
      builder: the builder of the step.
      step: the step, compiled for this machine's devices.
      length: number of tokens of a text.

    Returns:
      The line; None on a CPU, whose compiler does not count all memory.
    """
    devices = builder.sharded.mesh.devices
    if (compiler := compiler_of(devices)) == "cpu":
        return None
    made = figures_of(step, compiler, loss_chunks(builder, length))
    line = f"A step takes {gib(made.peak)} on each device, {gib(made.temporaries)} of it temporary"
    if (cost := made.cost) is None:
        return f"{line}."
    line += (
        f"; it computes {si(cost.flops, 'FLOP')}, moves {si(cost.memory_bytes, 'B')} in its memory "
        f"and sends {si(sum(cost.collective_bytes.values()), 'B')}"
    )
    rates = this_device().rates
    return f"{line}, which takes {_least(bounds(cost, rates))} at least." if rates else f"{line}."


def precision_line(builder: TrainStepBuilder) -> str:
    """Describes in one line in which dtypes the model computes and its parameters are stored."""
    model, config = builder.sharded.model, builder.sharded.config
    scaled = "; the loss is scaled" if builder.scaled else ""
    return (
        f"Computes in {model.img_dtype} (image tower) and {model.llm_dtype} (decoder); trainable "
        f"parameters are {config.trainable_dtype}, frozen ones {config.frozen_dtype}{scaled}."
    )


def device_line(builder: TrainStepBuilder) -> str:
    """Describes in one line the devices that a run uses, and what computes attention on them."""
    device, mesh = this_device(), builder.sharded.mesh
    hosts = jax.process_count()
    line = (
        f"Runs on {mesh.size} × {device.name} (data {mesh.shape['data']} × model "
        f"{mesh.shape['model']}), {gib(device.usable_bytes)} of memory each"
        f"{f', in {hosts} processes' if hosts > 1 else ''}."
    )
    with contextlib.suppress(UserError):  # ops of the user's own may leave the length unknown
        line += f" {attention_line(builder)}"
    return line


def attention_line(builder: TrainStepBuilder) -> str:
    """Describes in one line which implementations compute attention on the mesh's devices.

    Raises:
      UserError: the config does not say how long texts are.
    """
    model, batch = builder.sharded.model, abstract_batch(builder)
    img, llm, patches = model.img_config, model.llm_config, model.num_patches
    images = batch["image"].shape[1] if len(batch["image"].shape) == 5 else 1
    tokens = images * patches + batch["text"].shape[1] - 1
    towers = {
        "image tower": Shape(
            patches, patches, img.width // img.num_heads, model.img_dtype.name, False, False
        ),
        "decoder": Shape(
            tokens, tokens, llm.head_dim, model.llm_dtype.name, True, bool(llm.attn_softcap)
        ),
    }
    with builder.sharded.traced():
        parts = [
            f"{chosen(model.attention, shape)} ({name}, {shape.queries} tokens, heads of "
            f"{shape.head_dim})"
            for name, shape in towers.items()
        ]
    return f"Attention by {' and '.join(parts)}."


def _times(builder: TrainStepBuilder, cost: Cost, rates: Rates) -> list[str]:
    """Returns a table of the work of a step and its least time, and a sentence about the run."""
    config, mesh = builder.sharded.config, builder.sharded.mesh
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
    batch, steps = config.input.batch_size, config.total_steps
    per_second = batch / least.seconds
    if steps:
        total, what = steps * least.seconds, f"the {steps:,} steps"
    else:
        total, what = 1000 / per_second, "1,000 examples"
    return [
        table(("per device and step", "", "at least"), rows),
        f"By the data sheet a step takes at least {_least(least)}, which makes at most "
        f"{per_second:.3g} examples/s; {what} take {duration(total)}, "
        f"{mesh.size * total / 3600:.3g} device-hours.",
    ]


def _least(least: Bounds) -> str:
    return f"{duration(least.seconds)} ({least.by})"


def _compiler_line(made: Figures, device: Device) -> str:
    """Returns a sentence about the compiler, and how far its figures can be trusted."""
    if made.compiler != "cpu":
        name = {"cuda": "CUDA", "tpu": "the TPU"}.get(made.compiler, made.compiler)
        line = f"The step was compiled by the compiler of {name}, which"
        if made.cost is None:
            return f"{line} gave up for lack of memory."
        return f"{line} reports this peak."
    if device.name == "cpu":
        return (
            "A CPU's kernels take scratch memory that the compiler does not count, so leave some "
            "memory free."
        )
    line = (
        f"The step was compiled for a CPU. The compiler of {device.name} arranges temporaries "
        "differently, so leave a tenth of the memory free."
    )
    if device.target is None:
        return line
    extra = "cuda12" if isinstance(device.target, Gpu) else "tpu"
    return f"{line} To install that compiler: pip install 'paligemma-jax[{extra}]'."


def _host_line(builder: TrainStepBuilder, device: Device) -> str:
    """Returns a sentence about the host memory that loading takes."""
    loading = host_bytes(builder)
    if device.name == "cpu":
        return f"Loading takes about {gib(loading)} more."
    line = f"Loading takes about {gib(loading)} of host memory"
    if device.host_bytes is None:
        return f"{line}."
    verdict = "fits" if loading <= device.host_bytes else "does NOT fit"
    return f"{line}, which {verdict}: a host has {gib(device.host_bytes)}."


def _largest_line(largest: int, batch: int) -> str:
    if not largest:
        return "Not even the smallest batch fits."
    return f"The largest batch that fits is {largest}" + (
        ", which is this one." if largest == batch else "."
    )
