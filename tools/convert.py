"""Converts checkpoints: `.npz` files, Hugging Face folders, run directories, and deltas.

    python tools/convert.py pt-224 exported/             # any source -> a folder for transformers
    python tools/convert.py google-folder/ model.npz     # -> one .npz, as big_vision reads it
    python tools/convert.py runs/mine exported/ --dtype bfloat16 --push_to_hub me/mine
    python tools/convert.py runs/mine mine.npz --delta   # what trained; loads on top of its base
    python tools/convert.py runs/mine mine/ --adapter    # LoRA alone, as peft reads it

LoRA adapters, of a run or of peft, become part of their matrices, but for --adapter.

Tensors go one at a time; a full-size model takes a few gigabytes of host memory.
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from pgjax.checkpoints import released
from pgjax.checkpoints.formats import open_checkpoint
from pgjax.checkpoints.hf_export import DTYPES, write_folder
from pgjax.checkpoints.npz import write_delta, write_npz
from pgjax.checkpoints.peft import merged, write_adapter
from pgjax.checkpoints.tensors import Tensor
from pgjax.errors import UserError
from pgjax.loading.model_context import open_tokenizer
from pgjax.loading.parameters import open_run
from pgjax.loading.run_directory import is_run, read_run
from pgjax.models.lora import Lora, lora_config
from pgjax.models.paligemma import explicit
from pgjax.models.quantized import Quantized, dequantize


@dataclasses.dataclass
class Lazy:
    """A tensor that is fetched and cast when it is written, and shows that it was."""

    source: Tensor
    dtype: np.dtype
    bar: tqdm

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the source."""
        return self.source.shape

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows, rounded to nearest where the dtype is narrower."""
        x = self.source.read(start, stop)
        self.bar.update(x.nbytes)
        return x.astype(self.dtype, copy=False)


@dataclasses.dataclass
class OnDevice:
    """A parameter of a run, which may be kept quantized; read a layer at a time."""

    value: Any
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows, made float."""
        if not isinstance(self.value, Quantized):
            return np.asarray(self.value[start:stop] if self.shape else self.value)
        layers = range(*slice(start, stop).indices(self.shape[0]))
        return np.stack(
            [dequantize(jax.tree.map(lambda x: x[i], self.value), jnp.float32) for i in layers]  # noqa: B023
        )


@dataclasses.dataclass
class Source:
    """What is converted."""

    tensors: Mapping[str, Any]
    spec: dict[str, Any]
    tokenizer: bytes | None
    trained: list[str] | None = None  # of a run directory
    base: str = ""
    lora: Lora = dataclasses.field(default_factory=Lora)


def open_source(name: str, tokenizer: str | None, base: str | None = None) -> Source:
    """Opens any checkpoint source."""
    path = pathlib.Path(name)
    if path.is_dir() and is_run(path):
        context, params = open_run(path)
        frozen = np.dtype(DTYPES[context.config["frozen_dtype"]])
        tensors = {
            name: OnDevice(x, context.shapes[name], getattr(x, "dtype", frozen))
            for name, x in params.items()
        }
        return Source(
            tensors,
            explicit(context.model),
            context.tokenizer.model_bytes,
            read_run(path).trained,
            base or context.config["init"],
            context.model.lora,
        )
    checkpoint = open_checkpoint(name, base)
    if tokenizer is None:
        tokenizer = "tiny" if checkpoint.root == "tiny" else checkpoint.tokenizer
    bytes_ = open_tokenizer(str(tokenizer)).model_bytes if tokenizer else None
    lora = lora_config(checkpoint.spec.get("lora", {}))
    return Source(checkpoint.tensors, checkpoint.spec, bytes_, lora=lora)


def convert(
    source: Source, dest: pathlib.Path, dtype: str | None, delta: bool, adapter: bool
) -> None:
    """Writes `dest`: an `.npz` where it ends so, else a folder.

    Raises:
      UserError: it cannot be written, or a delta or an adapter is asked of what has none.
    """
    _check(source, dest, delta, adapter)
    names = source.trained if delta or adapter else list(source.tensors)
    if source.lora.rank and not adapter:
        source.tensors = merged(source.tensors, source.spec, source.lora.scale)
        names = list(source.tensors)
    total = sum(x.dtype.itemsize * int(np.prod(x.shape)) for x in map(source.tensors.get, names))
    with tqdm(total=total, unit="B", unit_scale=True, desc=dest.name, disable=None) as bar:
        tensors: dict[str, Tensor] = {}
        for name in names:
            x = source.tensors[name]
            tensors[name] = Lazy(x, np.dtype(DTYPES[dtype]) if dtype else np.dtype(x.dtype), bar)
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
            write_delta(dest, tensors, source.base)
        elif dest.suffix == ".npz":
            write_npz(dest, tensors)
        else:
            if source.tokenizer is None:
                print("NOTE: no tokenizer lies beside the source; give --tokenizer for a complete"
                      " folder.", file=sys.stderr)  # fmt: skip
            write_folder(dest, tensors, source.spec, dtype=dtype, tokenizer=source.tokenizer)


def _check(source: Source, dest: pathlib.Path, delta: bool, adapter: bool) -> None:
    """Checks that what is asked for can be had."""
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


def push(folder: pathlib.Path, repo: str) -> None:
    """Uploads a folder to the Hugging Face hub, creating the repository if need be."""
    import huggingface_hub as hub

    try:
        hub.create_repo(repo, exist_ok=True)
        hub.upload_folder(repo_id=repo, folder_path=folder)
    except (hub.errors.HfHubHTTPError, OSError) as e:
        raise UserError(f"{folder} is whole, but could not be pushed to {repo} ({e}).") from None


def main(argv: list[str] | None = None) -> int:
    """Converts, then pushes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="released name, .npz, folder, peft adapter, run directory")
    parser.add_argument("dest", type=pathlib.Path, help="an .npz, or a new folder")
    parser.add_argument("--dtype", choices=list(DTYPES), help="default: as stored")
    parser.add_argument("--tokenizer", help="tokenizer.model, where none lies beside the source")
    parser.add_argument("--delta", action="store_true", help="only what trained, on its base")
    parser.add_argument("--adapter", action="store_true", help="only LoRA, in the layout of peft")
    parser.add_argument("--base", help="what an adapter goes on, or is written to go on")
    parser.add_argument("--push_to_hub", metavar="REPO", help="upload the folder")
    args = parser.parse_args(argv)
    try:
        if args.push_to_hub and args.dest.suffix == ".npz":
            raise UserError("--push_to_hub uploads a folder; let dest be one.")
        source = open_source(args.source, args.tokenizer, args.base)
        convert(source, args.dest, args.dtype, args.delta, args.adapter)
        if args.push_to_hub:
            push(args.dest, args.push_to_hub)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    print(args.dest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
