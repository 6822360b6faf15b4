"""The memory that a training step takes on each device, and that loading takes on the host."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from pgjax import sharding
from pgjax.checkpoints.tensors import SLICE_BYTES
from pgjax.config import InputConfig
from pgjax.data.pipeline import parse_ops
from pgjax.devices.bounds import Bounds, bounds
from pgjax.devices.compiled import Figures, figures
from pgjax.devices.data_sheets import Device
from pgjax.errors import UserError
from pgjax.training.step_builder import TrainStepBuilder

# Bytes of host memory for Python, JAX and a GPU's driver; more than was measured on a CPU.
RUNTIME = 2 * 2**30


def nbytes(tree: Any) -> int:
    """Returns the bytes that arrays, or shapes with shardings, take on each device."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def moments(opt_state: Any) -> Any:
    """Returns the arrays of an optimizer's state, without the scalars that count its updates."""
    return [x for x in jax.tree.leaves(opt_state) if x.ndim]


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Bytes on each device while a training step runs, as far as shapes tell them."""

    trainable: int
    frozen: int
    optimizer: int
    batch: int
    gradients: int
    logits: int  # of one chunk of the loss, with their gradient

    @property
    def arguments(self) -> int:
        """Bytes that are taken before and after a step too; the state is updated in place."""
        return self.trainable + self.frozen + self.optimizer + self.batch

    @property
    def peak(self) -> int:
        """The most bytes that are taken at a time; without a compiled step, a lower bound."""
        return self.arguments + max(self.gradients, self.logits)


@dataclasses.dataclass(frozen=True)
class CompiledStepMemory(StepMemory):
    """Bytes on each device while a training step runs, as the compiler of the step reports them."""

    compiled: Figures

    @property
    def arguments(self) -> int:
        """Bytes that are taken before and after a step too."""
        return self.compiled.arguments or super().arguments  # not known of a step that is too large

    @property
    def temporaries(self) -> int:
        """Bytes that are taken only during a step, gradients and logits among them."""
        return self.compiled.peak - self.arguments

    @property
    def peak(self) -> int:
        """The most bytes that are taken at a time."""
        return self.compiled.peak

    def bounds(self, device: Device) -> Bounds | None:
        """Returns the least time of a step.

        Returns None if the device has no data sheet, or if the compiler gave up for lack of memory.
        """
        cost = self.compiled.cost
        return bounds(cost, device.rates) if cost and device.rates else None


def estimate_memory(builder: TrainStepBuilder, frames: int = 0) -> StepMemory:
    """Adds up what a training step needs at least, without compiling it.

    Args:
      builder: from `make_step_builder`. Neither parameters nor examples nor the devices need exist.
      frames: number of images in an example; 0 takes it from the config's pipelines.

    Raises:
      UserError: the config does not say how long texts are.
    """
    state, frozen = builder.abstract()
    batch = abstract_batch(builder, frames)
    sharded = builder.sharded
    rows, length = batch["text"].sharding.shard_shape(batch["text"].shape)
    chunk = min(sharded.config.loss_chunk, length)
    vocab = sharded.model.llm_config.vocab_size
    parts = sharded.config.grad_accum_steps
    summed = {  # gradients of several parts are added up in float32
        n: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=x.sharding)
        for n, x in state.params.items()
    }
    return StepMemory(
        trainable=nbytes(state.params),
        frozen=nbytes(frozen),
        optimizer=nbytes(moments(state.opt_state)),
        batch=nbytes(batch),
        gradients=nbytes(state.params if parts == 1 else summed),
        logits=2 * 4 * rows // parts * chunk * vocab,
    )


def compile_memory(builder: TrainStepBuilder, frames: int = 0) -> CompiledStepMemory:
    """Compiles the training step, and reads from it what it needs.

    Args:
      builder: from `make_step_builder`. Neither parameters nor examples nor the devices need exist.
      frames: number of images in an example; 0 takes it from the config's pipelines.

    Raises:
      UserError: the config does not say how long texts are, or the compiler reports no memory.
    """
    estimate = estimate_memory(builder, frames)
    state, frozen = builder.abstract()
    batch = abstract_batch(builder, frames)
    chunks = loss_chunks(builder, batch["text"].shape[1])
    lowered = builder.lower(state, frozen, batch)
    made = figures(lowered, builder.sharded.mesh.devices, unknown_trips=chunks)
    return CompiledStepMemory(**vars(estimate), compiled=made)


def loss_chunks(builder: TrainStepBuilder, length: int) -> int:
    """Returns in how many chunks the loss makes logits if every token of a text is supervised."""
    return -(-length // builder.sharded.config.loss_chunk)


def abstract_batch(builder: TrainStepBuilder, frames: int = 0) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes, dtypes and shardings of a training batch, see `estimate_memory`."""
    sharded = builder.sharded
    config = sharded.config
    answers = config.reward.samples if config.reward.given else 1
    rows, res = config.input.batch_size * answers, config.model.res
    length, declared_frames = _text_and_frames(config.input)
    frames = frames or declared_frames
    split = sharding.batch_sharding(sharded.mesh)
    image = (rows, *((frames,) if frames > 1 else ()), res, res, 3)
    text = jax.ShapeDtypeStruct((rows, length), jnp.int32, sharding=split)
    return {
        "image": jax.ShapeDtypeStruct(image, jnp.float32, sharding=split),
        **dict.fromkeys(("text", "mask_ar", "mask_loss"), text),
    }


def _text_and_frames(spec: InputConfig) -> tuple[int, int]:
    """Returns how many tokens a text has, and how many images an example, by the pipelines' ops."""
    specs = [part.pp or spec.pp for part in spec.mixture.values()] or [spec.pp]
    lengths, frames = set(), {1}
    for pp in specs:
        for op in parse_ops(pp):
            if op.name in ("for_training", "for_detection"):
                lengths.add(op.arguments["text_len"])
            elif op.name == "video":
                frames.add(op.arguments["count"])
    if len(lengths) != 1:
        raise UserError(
            f"config.input.pp has texts of {sorted(lengths) or 'unknown'} tokens, so memory cannot "
            "be planned; expected the same for_training(N) in all pipelines."
        )
    return lengths.pop(), max(frames)


def host_bytes(builder: TrainStepBuilder) -> int:
    """Returns about how many bytes of host memory loading takes, beside the parameters of a CPU.

    Large parameters are loaded in slices. A slice is in memory twice, as it is stored, in float32
    at most, and in its own dtype.
    """
    largest = 0
    state, frozen = builder.abstract()
    for x in jax.tree.leaves((state.params, frozen)):
        shard = x.sharding.shard_shape(x.shape)
        row = math.prod(shard[1:])
        rows = max(1, SLICE_BYTES // max(row * x.dtype.itemsize, 1))
        if shard[:1] == x.shape[:1]:  # rows that are split over devices are read whole
            shard = (min(shard[0], rows), *shard[1:]) if shard else ()
        largest = max(largest, math.prod(shard) * (4 + x.dtype.itemsize))
    return RUNTIME + largest
