"""What a plan says to people."""

import math
from collections.abc import Mapping
from typing import Any

import jax

from pgjax.console import duration, gib, si, table
from pgjax.devices.bounds import Bounds, bounds
from pgjax.devices.compiled import figures_of
from pgjax.devices.data_sheets import Device, Gpu, Rates, this_device
from pgjax.devices.targets import compiler_of
from pgjax.models.attention import Shape, chosen
from pgjax.training.step_builder import TrainStepBuilder
from pgjax.training.step_memory import Needs, abstract_batch, host_bytes, loss_chunks


def describe(
    builder: TrainStepBuilder,
    found: Needs,
    device: Device,
    frames: int = 0,
    largest: int | None = None,
) -> str:
    """The plan as tables, per device."""
    sharded, config = builder.sharded, builder.sharded.config
    batch = abstract_batch(builder, frames)
    image, text = batch["image"].shape, batch["text"].shape
    images = image[1] if len(image) == 5 else 1
    mesh = sharded.mesh.shape
    optimizer = config.optimizer
    rest = None
    if found.compiled and found.compiled.cost:
        rest = max(0, found.temporaries - found.gradients - found.logits)
    numbers = [
        sum(math.prod(s) for n, s in sharded.shapes.items() if (n in builder.multipliers) == trains)
        for trains in (True, False)
    ]
    rows = [
        (f"trainable parameters ({numbers[0]:,})", found.trainable),
        (f"frozen parameters ({numbers[1]:,})", found.frozen),
        (f"optimizer state ({optimizer.name})", found.optimizer),
        ("batch", found.batch),
        ("temporary: gradients", found.gradients),
        (f"temporary: logits ({config.loss_chunk} columns)", found.logits),
        ("temporary: activations and workspace", rest),
        ("peak, of the compiled step" if found.compiled else "peak, at least", found.peak),
        (f"usable on {device.name}", device.usable_bytes),
    ]
    verdict = "fits" if found.peak <= device.usable_bytes else "does NOT fit"
    lines = [
        f"Batch {text[0]} × {images} image{'s' * (images > 1)} of {config.model.res} px × "
        f"{text[1]} tokens in {config.grad_accum_steps} part(s), remat "
        f"{config.model.remat}, on {sharded.mesh.size} × {device.name} (data "
        f"{mesh['data']} × model {mesh['model']}).",
        precision_line(builder),
        attention_line(builder),
        "",
        table(("per device", ""), [(a, "–" if b is None else gib(b)) for a, b in rows]),
        f"It {verdict}: {gib(found.peak)} of {gib(device.usable_bytes)}.",
        _host_line(builder, found, device),
    ]
    if largest is not None:
        lines.append(_largest_line(largest, text[0]))
    if found.compiled:
        lines.append(_compiler_line(found, device))
        if found.compiled.cost and device.rates:
            lines += ["", *_times(builder, found, device.rates)]
    return "\n".join(lines)


def step_line(builder: TrainStepBuilder, step: jax.stages.Compiled, length: int) -> str | None:
    """One line about a step that is compiled for the devices that are there; None on a CPU.

    Args:
      builder: that made it.
      step: compiled.
      length: of the texts, in tokens.
    """
    devices = builder.sharded.mesh.devices
    if (compiler := compiler_of(devices)) == "cpu":
        return None
    made = figures_of(step, compiler, loss_chunks(builder, length))
    line = (
        f"Each device needs {gib(made.peak)} for a step: {gib(made.arguments)} that stay and "
        f"{gib(made.temporaries)} for the time of the step; it does {si(made.cost.flops, 'FLOP')}"
        f", moves {si(made.cost.memory_bytes, 'B')} in its memory and sends "
        f"{si(sum(made.cost.collective_bytes.values()), 'B')}"
    )
    rates = this_device().rates
    return f"{line}, which takes {_least(bounds(made.cost, rates))} at least." if rates else line


def precision_line(builder: TrainStepBuilder) -> str:
    """One line about dtypes."""
    model, config = builder.sharded.model, builder.sharded.config
    scaled = "; the loss is scaled" if builder.scaled else ""
    return (
        f"Computes in {model.img_dtype} (image tower) and {model.llm_dtype} (decoder); parameters "
        f"are {config.trainable_dtype} where they train, "
        f"{config.frozen_dtype} where they are frozen{scaled}."
    )


def parameter_table(
    shapes: Mapping[str, tuple[int, ...]],
    multipliers: Mapping[str, float],
    dtypes: Mapping[str, Any],
) -> str:
    """Formats a table of all parameters: their shape, dtype, and whether and how fast they train.

    Args:
      shapes: the shape of each parameter, by name.
      multipliers: the learning-rate multiplier of each trainable parameter, by name.
      dtypes: the dtype of each parameter, by name.
    """
    rows = []
    for name, shape in shapes.items():
        rate = multipliers.get(name)
        trains = "frozen" if rate is None else "trains" if rate == 1 else f"trains at lr × {rate:g}"
        rows.append((name, "×".join(map(str, shape)) or "scalar", str(dtypes[name]), trains))
    total = {
        kind: sum(math.prod(s) for n, s in shapes.items() if (n in multipliers) == kind)
        for kind in (True, False)
    }
    text = table(("parameter", "shape", "dtype", ""), rows)
    return f"{text}\n{total[True]:,} parameters train, {total[False]:,} are frozen."


def attention_line(builder: TrainStepBuilder) -> str:
    """One line about what computes attention, on the program's devices."""
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


def _times(builder: TrainStepBuilder, found: Needs, rates: Rates) -> list[str]:
    """What a step does, and how long that takes at least."""
    config, mesh, cost = builder.sharded.config, builder.sharded.mesh, found.compiled.cost
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


def _host_line(builder: TrainStepBuilder, found: Needs, device: Device) -> str:
    loading = host_bytes(builder)
    if device.name == "cpu":
        return f"Loading needs about {gib(loading)} beside that."
    line = f"Loading needs about {gib(loading)} of the host's memory"
    if device.host_bytes is None:
        return line + "."
    verdict = "fits" if loading <= device.host_bytes else "does NOT fit"
    return f"{line}, which {verdict}: there are {gib(device.host_bytes)}."


def _largest_line(largest: int, batch: int) -> str:
    if not largest:
        return "No batch fits, however small."
    return f"The largest batch that fits is {largest}" + (
        ", which is this one." if largest == batch else "."
    )
