"""Converts checkpoints: `.npz` files, Hugging Face folders, run directories, and deltas.

    python tools/convert.py pt-224 exported/             # any source -> a folder for transformers
    python tools/convert.py google-folder/ model.npz     # -> one .npz, as big_vision reads it
    python tools/convert.py runs/mine exported/ --dtype bfloat16 --push_to_hub me/mine
    python tools/convert.py runs/mine mine.npz --delta   # what trained; loads on top of its base

Tensors go one at a time; a full-size model takes a few gigabytes of host memory.
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from pgjax.checkpoints.hf_export import DTYPES, write_folder
from pgjax.checkpoints.npz import write_delta, write_npz
from pgjax.checkpoints.sources import open_checkpoint
from pgjax.checkpoints.tensors import Tensor
from pgjax.errors import UserError
from pgjax.inference.session import is_run, open_run, open_tokenizer
from pgjax.models.paligemma import PaliGemma


@dataclasses.dataclass
class Lazy:
    """A tensor that is fetched and cast when it is written, and shows that it was."""

    source: Any  # a Tensor, or an array on a device
    dtype: np.dtype
    bar: tqdm

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the source."""
        return self.source.shape

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows, rounded to nearest where the dtype is narrower."""
        whole = not hasattr(self.source, "read")
        x = np.asarray(self.source[start:stop]) if whole else self.source.read(start, stop)
        self.bar.update(x.nbytes)
        return x.astype(self.dtype, copy=False)


@dataclasses.dataclass
class Source:
    """What is converted."""

    tensors: Mapping[str, Any]
    spec: dict[str, Any]
    tokenizer: bytes | None
    trained: list[str] | None = None  # of a run directory
    base: str = ""


def open_source(name: str, tokenizer: str | None) -> Source:
    """Opens any checkpoint source."""
    path = pathlib.Path(name)
    if path.is_dir() and is_run(path):
        session, params = open_run(path)
        own = session.tokenizer.model_bytes
        trained = session.config["_trained"]
        return Source(params, explicit(session.model), own, trained, session.config["init"])
    checkpoint = open_checkpoint(name)
    if tokenizer is None:
        tokenizer = "tiny" if name == "tiny" else checkpoint.tokenizer
    bytes_ = open_tokenizer(str(tokenizer)).model_bytes if tokenizer else None
    return Source(checkpoint.tensors, checkpoint.spec, bytes_)


def explicit(model: PaliGemma) -> dict[str, Any]:
    """The sizes of a model, spelled out."""
    side = round(model.num_patches**0.5)
    img, llm = dataclasses.asdict(model.img_config), dataclasses.asdict(model.llm_config)
    return {"res": side * img["patch_size"][0], "img": img, "llm": llm}


def convert(source: Source, dest: pathlib.Path, dtype: str | None, delta: bool) -> None:
    """Writes `dest`: an `.npz` where it ends so, else a folder.

    Raises:
      UserError: it cannot be written, or a delta is asked of what did not train.
    """
    if dest.exists():
        raise UserError(f"{dest} exists already; give another name.")
    if delta and (source.trained is None or dest.suffix != ".npz"):
        raise UserError("--delta takes a run directory and writes an .npz.")
    if delta and not source.base:
        raise UserError("--delta needs a base, but this run began with random weights.")
    names = source.trained if delta else list(source.tensors)
    total = sum(x.dtype.itemsize * int(np.prod(x.shape)) for x in map(source.tensors.get, names))
    with tqdm(total=total, unit="B", unit_scale=True, desc=dest.name, disable=None) as bar:
        tensors: dict[str, Tensor] = {}
        for name in names:
            x = source.tensors[name]
            tensors[name] = Lazy(x, np.dtype(DTYPES[dtype]) if dtype else np.dtype(x.dtype), bar)
        if delta:
            write_delta(dest, tensors, source.base)
        elif dest.suffix == ".npz":
            write_npz(dest, tensors)
        else:
            if source.tokenizer is None:
                print("NOTE: no tokenizer lies beside the source; give --tokenizer for a complete"
                      " folder.", file=sys.stderr)  # fmt: skip
            write_folder(dest, tensors, source.spec, dtype=dtype, tokenizer=source.tokenizer)


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
    parser.add_argument("source", help="released name, .npz, Hugging Face folder, run directory")
    parser.add_argument("dest", type=pathlib.Path, help="an .npz, or a new folder")
    parser.add_argument("--dtype", choices=list(DTYPES), help="default: as stored")
    parser.add_argument("--tokenizer", help="tokenizer.model, where none lies beside the source")
    parser.add_argument("--delta", action="store_true", help="only what trained, on its base")
    parser.add_argument("--push_to_hub", metavar="REPO", help="upload the folder")
    args = parser.parse_args(argv)
    try:
        if args.push_to_hub and args.dest.suffix == ".npz":
            raise UserError("--push_to_hub uploads a folder; let dest be one.")
        convert(open_source(args.source, args.tokenizer), args.dest, args.dtype, args.delta)
        if args.push_to_hub:
            push(args.dest, args.push_to_hub)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    print(args.dest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
