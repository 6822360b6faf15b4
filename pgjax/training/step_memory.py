"""What a training step needs of each device's memory, and loading of the host's."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from pgjax import sharding
from pgjax.checkpoints.placement import SLICE_BYTES
from pgjax.config import InputConfig
from pgjax.data import ops_text, ops_video
from pgjax.data.pipeline import Pipeline
from pgjax.devices.compiled import Figures, figures
from pgjax.errors import UserError
from pgjax.training.step_builder import TrainStepBuilder

# Of a host, for Python, JAX and a GPU's driver; loading measured on a CPU stays below it.
RUNTIME = 2 * 2**30


def nbytes(tree: Any) -> int:
    """Bytes on each device of arrays, or of shapes with shardings."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def moments(opt_state: Any) -> Any:
    """An optimizer's state without the scalars that count its updates."""
    return [x for x in jax.tree.leaves(opt_state) if x.ndim]


@dataclasses.dataclass(frozen=True)
class Needs:
    """Bytes on each device while a step runs."""

    trainable: int
    frozen: int
    optimizer: int
    batch: int
    gradients: int
    logits: int  # of one chunk, and their gradient
    compiled: Figures | None = None  # of the compiled step

    @property
    def arguments(self) -> int:
        """What is there before and after a step; the state is updated in place."""
        if self.compiled and self.compiled.arguments:
            return self.compiled.arguments
        return self.trainable + self.frozen + self.optimizer + self.batch

    @property
    def temporaries(self) -> int | None:
        """Of the compiled step, gradients and logits among them; None where none is."""
        return self.compiled and self.compiled.peak - self.arguments

    @property
    def peak(self) -> int:
        """By the compiler; without a compiled step, what it is at least."""
        if self.compiled:
            return self.compiled.peak
        return self.arguments + max(self.gradients, self.logits)


def needs(builder: TrainStepBuilder, *, frames: int = 0, compiled: bool = True) -> Needs:
    """What a step of the program needs.

    Args:
      builder: from `make_step_builder`; no parameter or example need exist, nor the devices.
      frames: images per example; 0 for what the config's operations say.
      compiled: whether to compile the step, for what the devices' compiler makes of it.

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
    wide = {n: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=x.sharding)
            for n, x in state.params.items()}  # fmt: skip
    found = Needs(
        trainable=nbytes(state.params),
        frozen=nbytes(frozen),
        optimizer=nbytes(moments(state.opt_state)),
        batch=nbytes(batch),
        gradients=nbytes(state.params if parts == 1 else wide),
        logits=2 * 4 * rows // parts * chunk * vocab,
    )
    if not compiled:
        return found
    lowered = builder.lower(state, frozen, batch)
    made = figures(lowered, sharded.mesh.devices, unknown_trips=loss_chunks(builder, length))
    return dataclasses.replace(found, compiled=made)


def loss_chunks(builder: TrainStepBuilder, length: int) -> int:
    """Parts in which the loss makes logits, if every column of a text is supervised."""
    return -(-length // builder.sharded.config.loss_chunk)


def abstract_batch(builder: TrainStepBuilder, frames: int = 0) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and shardings of a training batch, see `needs`."""
    sharded = builder.sharded
    config = sharded.config
    rows, res = config.input.batch_size, config.model.res
    length, found = _text_and_frames(config.input)
    frames = frames or found
    split = sharding.batch_sharding(sharded.mesh)
    image = (rows, *((frames,) if frames > 1 else ()), res, res, 3)
    text = jax.ShapeDtypeStruct((rows, length), jnp.int32, sharding=split)
    return {
        "image": jax.ShapeDtypeStruct(image, jnp.float32, sharding=split),
        **dict.fromkeys(("text", "mask_ar", "mask_loss"), text),
    }


def _text_and_frames(spec: InputConfig) -> tuple[int, int]:
    """Tokens of a text and images of an example, as the operations that make them say."""
    specs = [part.pp or spec.pp for part in spec.mixture.values()] or [spec.pp]
    lengths, frames = set(), {1}
    for pp in specs:
        # Parsed for their arguments only; nothing is tokenized.
        for step in Pipeline.parse(pp, tokenizer=object()).steps:
            if step.function is ops_text.for_training:
                lengths.add(step.kwargs.get("text_len", step.args[0] if step.args else 0))
            elif step.function is ops_video.video:
                frames.add(step.kwargs.get("count", step.args[0] if step.args else 1))
    if len(lengths) != 1:
        raise UserError(
            f"config.input.pp has texts of {sorted(lengths) or 'unknown'} tokens, expected one "
            "for_training(N); without it, memory cannot be planned."
        )
    return lengths.pop(), max(frames)


def host_bytes(builder: TrainStepBuilder) -> int:
    """About what loading needs of the host's memory, beside what stays on a CPU "device".

    Large parameters go slice by slice: as stored (float32 at most), and in their own dtype.
    """
    largest = 0
    state, frozen = builder.abstract()
    for x in jax.tree.leaves((state.params, frozen)):
        shard = x.sharding.shard_shape(x.shape)
        row = math.prod(shard[1:])
        rows = max(1, SLICE_BYTES // max(row * x.dtype.itemsize, 1))
        if shard[:1] == x.shape[:1]:  # a device's rows of a split one are read whole
            shard = (min(shard[0], rows), *shard[1:]) if shard else ()
        largest = max(largest, math.prod(shard) * (4 + x.dtype.itemsize))
    return RUNTIME + largest
