"""Prints the memory of a model's compiled decode step on a GPU that this machine need not have.

    python tools/bench/decode_memory.py --device h100 --kind int8 --batch 1

One `extend` (a token for every row) is compiled by the GPU's own compiler, over parameters in the
layout of `pgjax.load`. The sizes of its arguments, temporaries and outputs are printed. Beside the
float32 logits, there should be almost no temporaries, because weights are read as they are stored.
This needs `jax[cuda12]` in the version of jax in use, but no GPU.
"""

import argparse
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from common import SIZES
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pgjax import trees
from pgjax.devices.data_sheets import get_device
from pgjax.devices.targets import target_devices, use_cpu
from pgjax.loading.decode_layout import abstract_decode_layout
from pgjax.loading.quantize_on_load import is_quantized
from pgjax.models.paligemma import Cache, abstract_params, make_model
from pgjax.models.quantized import KINDS

# Without a device, kernels cannot be timed. Unlike those of a training step, these products compile
# to Triton's kernels even so, among which a real GPU would choose.
OPTIONS = {"xla_gpu_autotune_level": 0}

# The dtypes of parameters and of the decoder's arithmetic, as in `pgjax.devices.precision`.
DTYPES = {"h100": ("bfloat16", "bfloat16"), "t4": ("float16", "float32")}


def compile_step(device: Any, name: str, kind: str | None, size: str, batch: int, columns: int):
    """Compiles `extend`; returns the compiled program and the bytes of its logits."""
    kept, compute = DTYPES[name]
    model = make_model({**SIZES[size], "img_dtype": compute, "llm_dtype": compute, "remat": "none"})
    sharding = NamedSharding(Mesh(np.array([device]), ("data",)), PartitionSpec())
    shapes = trees.flatten(nn.unbox(abstract_params(model)))
    params = {
        n: abstract_decode_layout(n, x.shape, _kept(n, x.shape, kept, kind), sharding)
        for n, x in shapes.items()
    }

    def there(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    c = model.llm_config
    each = jax.ShapeDtypeStruct((batch, columns, c.num_kv_heads, c.head_dim), compute)
    cache = Cache(
        tuple({"k": each, "v": each} for _ in range(c.depth)),
        jax.ShapeDtypeStruct((batch, columns), bool),
        jax.ShapeDtypeStruct((batch,), jnp.int32),
        jax.ShapeDtypeStruct((), jnp.int32),
    )
    token = jax.ShapeDtypeStruct((batch,), jnp.int32)
    token, cache = jax.tree.map(there, (token, cache))

    def extend(params, token, cache):
        variables = {"params": trees.unflatten(params)}
        return model.apply(variables, token, cache, method="extend")

    # The cache is written in place, as in the loop that decodes.
    lowered = jax.jit(extend, donate_argnums=2).lower(params, token, cache)
    return lowered.compile(OPTIONS), 4 * batch * c.vocab_size


def _kept(name: str, shape: tuple[int, ...], dtype: str, kind: str | None) -> str:
    if kind and is_quantized(name, shape):
        return kind
    return "float32" if name.endswith(("/bias", "/scale")) else dtype


def kernels(text: str) -> int:
    """Counts the kernels and library calls in the entry computation of a compiled program."""
    entry = text[text.index("\nENTRY ") :]
    return len(re.findall(r" (?:fusion|custom-call|reduce|copy|transpose|convert)\(", entry))


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a line per batch size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=list(DTYPES), default="h100", help="the GPU")
    parser.add_argument("--kind", choices=["", *KINDS], default="", help="the quantization")
    parser.add_argument("--size", choices=list(SIZES), default="3b", help="the model")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="batch sizes")
    parser.add_argument("--columns", type=int, default=384, help="the length of the cache")
    parser.add_argument(
        "--text", type=pathlib.Path, help="a folder to write the compiled programs to"
    )
    args = parser.parse_args(argv)
    use_cpu()
    found = target_devices(get_device(args.device), 1)
    if found is None:
        parser.error(
            "the GPU's compiler is not installed; it comes with the extra cuda12 or cuda13."
        )
    (device,) = found
    for batch in args.batch:
        compiled, logits = compile_step(
            device, args.device, args.kind or None, args.size, batch, args.columns
        )
        text, memory = compiled.as_text(), compiled.memory_analysis()
        if args.text:
            name = f"{args.device}_{args.kind or 'plain'}_{args.size}_{batch}.txt"
            (args.text / name).write_text(text)
        # The outputs beside the cache, whose memory is reused, are the logits.
        new = memory.output_size_in_bytes - memory.alias_size_in_bytes
        print(
            f"{args.device} {args.kind or DTYPES[args.device][0]} {args.size}, batch {batch}: "
            f"arguments {memory.argument_size_in_bytes / 1e6:.1f} MB, temporaries "
            f"{memory.temp_size_in_bytes / 1e6:.2f} MB, outputs {new / 1e6:.2f} MB "
            f"(logits {logits / 1e6:.2f} MB), {kernels(text)} kernels",
            flush=True,
        )


if __name__ == "__main__":
    main()
