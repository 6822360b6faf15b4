"""Measures loading a full-size checkpoint: peak host memory, and time beside reading the file.

    python tools/bench/loading.py [--folder DIR] [--quantize nf4] [--size 2-28b] [--depth 12]

A random PaliGemma-3B in float16 (5.5 GiB), or a PaliGemma 2, is written as `.npz` and as a folder
of safetensors. Then each is loaded in a process of its own on the CPU, whose device memory is host
memory. `--depth` leaves out layers of the decoder, for files that the disk does not hold: layers
are loaded one after the other, so their number does not change what loading needs beside them.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import flax.linen as nn
import numpy as np
from common import Row, measure_in_turn
from planned import MODELS

from pgjax import trees
from pgjax.checkpoints.hf_export import write_folder
from pgjax.checkpoints.npz import write_npz
from pgjax.models.paligemma import abstract_params, make_model
from pgjax.text.tokenizer import Tokenizer

GIB = 2**30
FORMS = ("npz", "safetensors")


@dataclasses.dataclass
class Random:
    """A tensor of small float16 values, which are made as they are read."""

    shape: tuple[int, ...]
    dtype = np.dtype(np.float16)

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Returns rows, which repeat the same few megabytes."""
        rng = np.random.default_rng(len(self.shape))
        part = (rng.standard_normal(2**22, np.float32) * 0.02).astype(np.float16)
        rows = len(range(*slice(start, stop).indices(self.shape[0])))
        return np.resize(part, (rows, *self.shape[1:]))


def make(
    folder: pathlib.Path, size: str, depth: int, forms: Sequence[str]
) -> dict[str, pathlib.Path]:
    """Writes the forms of the checkpoint, unless they exist."""
    folder.mkdir(parents=True, exist_ok=True)
    llm = {"variant": MODELS[size]} | ({"depth": depth} if depth else {})
    model = make_model({"res": 224, "img": {"variant": "So400m/14"}, "llm": llm})
    name = f"random-{size}-{model.llm_config.depth}"
    paths = {"npz": folder / f"{name}.f16.npz", "safetensors": folder / f"{name}-f16"}
    flat = trees.flatten(nn.unbox(abstract_params(model)))
    tensors = {name: Random(x.shape) for name, x in flat.items()}
    if "npz" in forms and not paths["npz"].exists():
        write_npz(paths["npz"], tensors)
    if "safetensors" in forms and not paths["safetensors"].exists():
        sizes = {
            "res": 224,
            "img": dataclasses.asdict(model.img_config),
            "llm": dataclasses.asdict(model.llm_config),
        }
        write_folder(paths["safetensors"], tensors, sizes)
    return {form: paths[form] for form in forms}


def load(path: pathlib.Path, quantize: str | None) -> dict[str, float]:
    """Loads in this process, and returns the time, peak resident memory, and parameter bytes."""
    import jax

    from pgjax.inference import load as module

    # The packaged tokenizer has the layout of the real one, which requires a licence.
    module.open_tokenizer = lambda _: _Vocabulary(Tokenizer.tiny().model_bytes)
    peak, done = [0], threading.Event()

    def watch():
        while not done.wait(0.02):
            with open("/proc/self/statm") as f:
                peak[0] = max(peak[0], int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))

    jax.block_until_ready(jax.numpy.zeros(1))
    threading.Thread(target=watch, daemon=True).start()
    start = time.perf_counter()
    model = module.load(path, quantize=quantize)
    jax.block_until_ready(jax.tree.leaves(model.params))
    seconds = time.perf_counter() - start
    done.set()
    size = sum(x.nbytes for x in jax.tree.leaves(model.params))
    return {"seconds": seconds, "peak": peak[0], "device": size}


class _Vocabulary(Tokenizer):
    vocab_size = property(lambda self: 257_152, lambda self, value: None)


def read_once(path: pathlib.Path) -> float:
    """Times `cat FILE > /dev/null`, in seconds."""
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    start = time.perf_counter()
    with open(os.devnull, "wb") as null:
        subprocess.run(["cat", *map(str, files)], stdout=null, check=True)
    return time.perf_counter() - start


def table(
    folder: pathlib.Path | None = None,
    quantize: Sequence[str] = ("", "nf4"),
    size: str = "3b",
    depth: int = 0,
    forms: Sequence[str] = FORMS,
) -> list[Row]:
    """Measures everything, and returns the rows of the table; `folder` keeps the files."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        where = folder or pathlib.Path(temporary)
        for form, path in make(where, size, depth, forms).items():
            for kind in quantize:
                read_once(path)  # Both are read from the page cache.
                cat = read_once(path)
                flags = ["--kind", kind, "--path", path]
                (r,) = measure_in_turn(__file__, [form], 1, flags)[form]
                each = f"{size} load, {form}, {kind or 'float16'}"
                rows += [
                    Row(f"{each}: peak of host memory", r["peak"] / GIB, "GiB"),
                    Row(f"{each}: on the device", r["device"] / GIB, "GiB"),
                    Row(f"{each}: time over that of cat", r["seconds"] / cat, "×", f"{cat:.1f} s"),
                ]
    return rows


def main() -> None:
    """Prints the table, or measures one form of the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder",
        type=pathlib.Path,
        help="a folder to keep the files in (default: a temporary one)",
    )
    parser.add_argument("--quantize", nargs="*", default=["", "nf4"], help="quantizations")
    parser.add_argument("--size", choices=MODELS, default="3b", help="the model")
    parser.add_argument("--depth", type=int, default=0, help="layers of the decoder, 0 for all")
    parser.add_argument("--forms", nargs="*", choices=FORMS, default=FORMS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(load(args.path, args.kind or None)))
        return
    for row in table(args.folder, args.quantize, args.size, args.depth, args.forms):
        print(row)


if __name__ == "__main__":
    main()
