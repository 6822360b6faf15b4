"""Writes any checkpoint source as an `.npz`, a Hugging Face folder, a delta, or an adapter.

LoRA adapters, of a run or of peft, are merged into their matrices, except in `adapter`. Tensors go
one at a time, so that a full-size model takes a few gigabytes of host memory.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from pgjax.checkpoints import released
from pgjax.checkpoints.base_checkpoint import record_base
from pgjax.checkpoints.formats import open_checkpoint
from pgjax.checkpoints.hf_export import DTYPES, write_folder
from pgjax.checkpoints.npz import write_delta, write_npz
from pgjax.checkpoints.peft import merged, write_adapter
from pgjax.checkpoints.tensors import Tensor
from pgjax.errors import UserError, note
from pgjax.loading.model_context import open_tokenizer
from pgjax.loading.parameters import open_run
from pgjax.loading.run_directory import is_run, read_run
from pgjax.models.lora import Lora, lora_config
from pgjax.models.paligemma import explicit
from pgjax.models.quantized import Quantized, dequantize


@dataclasses.dataclass
class LazyTensor:
    """A tensor that is read and cast when it is written, and then moves the progress bar."""

    source: Tensor
    dtype: np.dtype
    bar: tqdm
    overflows: int = 0  # finite values so far that the dtype cannot hold

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the source."""
        return self.source.shape

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows `start` to `stop`, rounded to nearest where the dtype is narrower."""
        x = self.source.read(start, stop)
        self.bar.update(x.nbytes)
        with np.errstate(over="ignore"):
            result = x.astype(self.dtype, copy=False)
        if self.dtype == np.float16 and x.dtype != np.float16:
            self.overflows += int(np.sum(np.isinf(result) & np.isfinite(x)))
        return result


@dataclasses.dataclass
class DeviceTensor:
    """A parameter of a run, which may be quantized; it is read a layer at a time."""

    value: Any
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows `start` to `stop`, dequantized."""
        if not isinstance(self.value, Quantized):
            return np.asarray(self.value[start:stop] if self.shape else self.value)
        layers = range(*slice(start, stop).indices(self.shape[0]))
        return np.stack(
            [dequantize(jax.tree.map(lambda x: x[i], self.value), jnp.float32) for i in layers]  # noqa: B023
        )


@dataclasses.dataclass
class WeightSource:
    """A checkpoint to be written in another form.

    Attributes:
      tensors: parameters by their names in big_vision.
      spec: sizes of the model, as `config.model` spells them out.
      tokenizer: content of tokenizer.model; None where none is known.
      trained: names of what a run trained; None for what is no run.
      base: the checkpoint that a run started from; "" for random weights.
      lora: what adapters there are among the tensors.
    """

    tensors: Mapping[str, Any]
    spec: dict[str, Any]
    tokenizer: bytes | None
    trained: list[str] | None = None
    base: str = ""
    lora: Lora = dataclasses.field(default_factory=Lora)


def open_source(
    name: str, tokenizer: str | None, base: str | None = None, step: str | None = None
) -> WeightSource:
    """Opens a checkpoint of any form.

    Args:
      name: a released name, an .npz, a folder, an adapter of peft, or a run directory.
      tokenizer: its tokenizer.model, or `gemma` or `tiny`; None for the one beside it.
      base: the checkpoint below an adapter; None for the one that it names.
      step: which checkpoint of a run directory, see `RunDirectory.choose_step`.

    Raises:
      UserError: it is not found or cannot be read.
    """
    path = pathlib.Path(name)
    if is_run(path):
        context, params = open_run(path, base=base, step=step)
        run = read_run(path)
        frozen = np.dtype(DTYPES[context.config.frozen_dtype])
        tensors = {
            name: DeviceTensor(x, context.shapes[name], getattr(x, "dtype", frozen))
            for name, x in params.items()
        }
        return WeightSource(
            tensors,
            explicit(context.model),
            context.tokenizer.model_bytes,
            list(run.trained),
            base or (run.find_base() if params.keys() - set(run.trained) else run.config.init),
            context.model.lora,
        )
    if step is not None:
        raise UserError(f"step is {step!r}, but {name} is no run directory; leave it out.")
    checkpoint = open_checkpoint(name, base)
    beside = "tiny" if checkpoint.root == "tiny" else checkpoint.tokenizer
    found = tokenizer or beside
    bytes_ = open_tokenizer(str(found)).model_bytes if found else None
    lora = lora_config(checkpoint.spec.get("lora", {}))
    return WeightSource(checkpoint.tensors, checkpoint.spec, bytes_, lora=lora)


def export(
    source: WeightSource, dest: pathlib.Path, *, dtype: str | None, delta: bool, adapter: bool
) -> None:
    """Writes a checkpoint: an `.npz` where the name ends so, else a folder.

    Args:
      source: from `open_source`.
      dest: the new file or folder.
      dtype: precision of the tensors, a key of `DTYPES`; None for that of the source.
      delta: write only what a run trained.
      adapter: write only LoRA adapters, as peft reads them.

    Raises:
      UserError: it cannot be written, or the source has no delta or adapter to write.
    """
    _check(source, dest, delta, adapter)
    stored = source.tensors
    if source.lora.rank and not adapter:
        stored = merged(stored, source.spec, source.lora.scale)
    elif delta or adapter:
        stored = {name: stored[name] for name in source.trained or ()}
    total = sum(x.dtype.itemsize * int(np.prod(x.shape)) for x in stored.values())
    with tqdm(total=total, unit="B", unit_scale=True, desc=dest.name, disable=None) as bar:
        tensors: dict[str, LazyTensor] = {}
        for name, x in stored.items():
            tensors[name] = LazyTensor(
                x, np.dtype(DTYPES[dtype]) if dtype else np.dtype(x.dtype), bar
            )
        if adapter:
            release = released.get(source.base)
            write_adapter(
                dest,
                tensors,
                source.spec,
                dataclasses.asdict(source.lora),
                base=release.repo if release else source.base or None,
                revision=release.branch if release else None,
            )
        elif delta:
            write_delta(dest, tensors, record_base(source.base), _softcap(source))
        elif dest.suffix == ".npz":
            write_npz(dest, tensors, _softcap(source))
        else:
            if source.tokenizer is None:
                note(
                    "There is no tokenizer beside the source, so the folder has none; --tokenizer "
                    "names one."
                )
            write_folder(dest, tensors, source.spec, dtype=dtype, tokenizer=source.tokenizer)
    _report_overflows(dest, tensors)


def _softcap(source: WeightSource) -> dict[str, float]:
    """What an `.npz` has to say of PaliGemma 2, whose cap is taken to be 30 otherwise."""
    llm = source.spec["llm"]
    return {"final_softcap": llm["final_softcap"]} if llm.get("post_norms") else {}


def _report_overflows(dest: pathlib.Path, tensors: Mapping[str, LazyTensor]) -> None:
    """Says how many values became infinite, and where."""
    found = {name: x.overflows for name, x in tensors.items() if x.overflows}
    if found:
        note(
            f"{sum(found.values())} values of {len(found)} parameters ({', '.join([*found][:3])}) "
            f"are beyond the range of float16 and became infinite in {dest}; bfloat16 would hold "
            "them."
        )


def _check(source: WeightSource, dest: pathlib.Path, delta: bool, adapter: bool) -> None:
    """Checks that the source has what is to be written, and that nothing is overwritten."""
    if dest.exists():
        raise UserError(f"{dest} exists already; give another name.")
    if delta and (source.trained is None or dest.suffix != ".npz"):
        raise UserError("--delta takes a run directory and writes an .npz.")
    if delta and source.lora.rank:
        raise UserError(
            "--delta of a LoRA run would hold whole matrices; --adapter writes the adapter alone, "
            "and without either the merged model is written."
        )
    if delta and not source.base:
        raise UserError("--delta needs a base, but this run began with random weights.")
    if adapter and (source.trained is None or not source.lora.rank or dest.suffix == ".npz"):
        raise UserError("--adapter takes a run directory with LoRA adapters and writes a folder.")
