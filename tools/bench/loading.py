"""Loading a full-size checkpoint: peak host memory, and time against reading the file once.

    python tools/bench/loading.py [--folder DIR] [--quantize nf4]

Writes a random PaliGemma-3B in float16 (5.5 GiB) as `.npz` and as a folder of safetensors, then
loads each in a process of its own on the CPU, where the "device" is host memory as well.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import flax.linen as nn
import numpy as np

from pgjax import trees
from pgjax.checkpoints.hf_export import write_folder
from pgjax.checkpoints.npz import open_npz, write_npz
from pgjax.models.paligemma import abstract_params, make_model
from pgjax.text.tokenizer import Tokenizer

SPEC = {"res": 224, "img": {"variant": "So400m/14"}, "llm": {"variant": "gemma_2b"}}
GIB = 2**30


@dataclasses.dataclass
class Random:
    """Small float16 values, made when they are read."""

    shape: tuple[int, ...]
    dtype = np.dtype(np.float16)

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows, the same few megabytes over and over."""
        rng = np.random.default_rng(len(self.shape))
        part = (rng.standard_normal(2**22, np.float32) * 0.02).astype(np.float16)
        return np.resize(part, self.shape)[start:stop]


def make(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Writes both forms, if they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"npz": folder / "random-3b.f16.npz", "safetensors": folder / "random-3b-f16"}
    model = make_model(SPEC)
    if not paths["npz"].exists():
        flat = trees.flatten(nn.unbox(abstract_params(model)))
        write_npz(paths["npz"], {name: Random(x.shape) for name, x in flat.items()})
    if not paths["safetensors"].exists():
        sizes = {
            "res": 224,
            "img": dataclasses.asdict(model.img_config),
            "llm": dataclasses.asdict(model.llm_config),
        }
        write_folder(paths["safetensors"], open_npz(paths["npz"]), sizes)
    return paths


def load(path: pathlib.Path, quantize: str | None) -> dict[str, float]:
    """In a process of its own: seconds, peak resident memory, and bytes of the result."""
    import jax

    from pgjax.inference import load as module

    # The small tokenizer's layout is that of the real one, which is behind a licence.
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
    """Seconds of `cat FILE > /dev/null`."""
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    start = time.perf_counter()
    with open(os.devnull, "wb") as null:
        subprocess.run(["cat", *map(str, files)], stdout=null, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Prints a line per form."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=pathlib.Path, help="kept; default: a temporary one")
    parser.add_argument("--quantize", nargs="*", default=["", "nf4"])
    parser.add_argument("--load", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.load:
        print(json.dumps(load(pathlib.Path(args.load[0]), args.load[1] or None)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        for form, path in make(args.folder or pathlib.Path(temporary)).items():
            for quantize in args.quantize:
                read_once(path)  # both from the page cache
                cat = read_once(path)
                command = [sys.executable, __file__, "--load", str(path), quantize]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(done.stderr)
                r = json.loads(done.stdout.splitlines()[-1])
                print(
                    f"{form:<12} {quantize or 'float16':<8} peak {r['peak'] / GIB:5.2f} GiB, "
                    f"on the device {r['device'] / GIB:5.2f} GiB; {r['seconds']:.1f} s, "
                    f"{r['seconds'] / cat:.1f} times cat ({cat:.1f} s)",
                    flush=True,
                )


if __name__ == "__main__":
    main()
