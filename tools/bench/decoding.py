"""Measures the time of prefill and the greedy tokens per second of answers, beside transformers.

    python tools/bench/decoding.py [--size mid] [--batches 1 8] [--tokens 64] [--repeats 3]

Both have the same random weights (the size 3b measures pgjax alone), a prompt of 8 tokens, and
never end an answer early. Measurements take turns, each in a process of its own, without the time
of loading and compiling. Prefill is timed by an answer of one token. The rate is over all tokens of
an answer, including prefill; the time per token is without prefill. Both must give the same tokens.
On a GPU, the share of the memory bandwidth is printed that reading the decoder once per token
takes.
"""

import argparse
import dataclasses
import json
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import (
    SIZES,
    Row,
    in_parallel,
    installed,
    measure_in_turn,
    median,
    peaks,
    random_arrays,
    seconds_of,
)

PROMPT = (2, 1000, 1100, 1200, 1300, 1400, 1500, 108)


def pixels(batch: int, res: int) -> np.ndarray:
    """Draws random images, float32 [b, res, res, 3] in -1..1."""
    return np.random.default_rng(0).uniform(-1, 1, (batch, res, res, 3)).astype(np.float32)


def export(folder: pathlib.Path, size: str) -> None:
    """Writes random float32 weights as a Hugging Face folder."""
    import jax

    from pgjax import trees
    from pgjax.checkpoints.hf_export import write_folder
    from pgjax.checkpoints.tensors import InMemory
    from pgjax.models.paligemma import explicit, init_params, make_model

    model = make_model(SIZES[size])
    flat = trees.flatten(init_params(model, jax.random.key(0)))
    write_folder(folder, {k: InMemory(np.asarray(x)) for k, x in flat.items()}, explicit(model))


@dataclasses.dataclass
class Answers:
    """The two compiled programs that answer at one batch size, as in `pgjax.load`."""

    start: Callable[[], Any]  # returns the state after the first token
    go_on: Callable[[Any], Any]  # takes over a state, and returns the one after the whole answer
    cache_bytes: int  # the keys and values that each token reads
    compile_seconds: float

    def generate(self, tokens: int) -> np.ndarray:
        """Returns int32 [b, 1] for one token, and otherwise all tokens of the compiled length."""
        state = self.start()
        return np.asarray(state.out.tokens[:, :1] if tokens == 1 else self.go_on(state))


def half_model(size: str) -> Any:
    """Makes the model of a size for answering, in the precision that suits this device."""
    from pgjax.devices.precision import precision_here
    from pgjax.models.paligemma import make_model

    p = precision_here()
    return make_model({**SIZES[size], "img_dtype": p.img, "llm_dtype": p.llm, "remat": "none"})


def arranged(params: dict[str, Any], kind: str | None = None) -> dict[str, Any]:
    """Makes random parameters in the layout for decoding, with an optionally quantized decoder."""
    from pgjax.loading.decode_layout import to_decode_layout
    from pgjax.loading.quantize_on_load import matrix_kinds

    layers = to_decode_layout(
        params, kinds=matrix_kinds({n: x.shape for n, x in params.items()}, kind)
    )  # takes them out of params
    return params | layers


def random_params(model: Any) -> dict[str, Any]:
    """Returns the dtype of the decoder."""
    import flax.linen as nn
    import jax

    from pgjax import trees
    from pgjax.models.paligemma import abstract_params

    flat = trees.flatten(nn.unbox(abstract_params(model)))
    return random_arrays(
        {name: jax.ShapeDtypeStruct(x.shape, model.llm_dtype) for name, x in flat.items()}
    )


def compile_answers(model: Any, params: dict[str, Any], batch: int, tokens: int) -> Answers:
    """Compiles prefill, and the loop over the tokens after the first, which ignores eos."""
    import jax
    import jax.numpy as jnp

    from pgjax import trees
    from pgjax.decoding.generate import advance, begin, plain_rules
    from pgjax.decoding.samplers import greedy
    from pgjax.loading.compiler_options import compiler_options

    image = jnp.asarray(pixels(batch, _res(model)))
    text = jnp.tile(jnp.asarray(PROMPT, jnp.int32), (batch, 1))

    def rules():
        return plain_rules(batch, model.llm_config.vocab_size, limit=tokens, eos_id=-1)

    def start(params, image, text):
        variables = {"params": trees.unflatten(params)}
        options = {"max_new_tokens": tokens, "cache_dtype": model.llm_dtype, "method": "prefill"}
        zeros, ones = jnp.zeros_like(text), jnp.ones(text.shape, bool)
        return begin(
            lambda: model.apply(variables, image, text, zeros, ones, **options),
            rules(),
            sampler=greedy,
            max_new_tokens=tokens,
        )

    def go_on(params, state):
        variables = {"params": trees.unflatten(params)}
        return advance(
            lambda token, cache: model.apply(variables, token, cache, method="extend"),
            rules(),
            state,
            sampler=greedy,
            until=tokens,
        ).out.tokens

    begun, options = time.perf_counter(), compiler_options()
    first = jax.jit(start, compiler_options=options).lower(params, image, text)
    state = jax.eval_shape(start, params, image, text)
    rest = jax.jit(go_on, donate_argnums=1, compiler_options=options).lower(params, state)
    first, rest = in_parallel([first.compile, rest.compile])
    return Answers(
        start=lambda: jax.block_until_ready(first(params, image, text)),
        go_on=lambda state: jax.block_until_ready(rest(params, state)),
        cache_bytes=sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.cache.layers)),
        compile_seconds=time.perf_counter() - begun,
    )


def bytes_per_token(params: dict[str, Any]) -> int:
    """Returns the bytes of the decoder and its embedding, which each token reads once."""
    return sum(x.nbytes for name, x in params.items() if name.startswith("llm/"))


def _res(model: Any) -> int:
    return round(model.num_patches**0.5) * model.img_config.patch_size[0]


def run_pgjax(args: argparse.Namespace) -> tuple[Callable[[int], np.ndarray], dict[str, Any]]:
    """Returns a function from a number of tokens to int32 [b, t], and the bytes read per token."""
    model = half_model(args.size)
    params = _stored(args.folder, model) if args.folder else random_params(model)
    params = arranged(params, args.quantize or None)
    answers = compile_answers(model, params, args.batch, args.tokens)
    return answers.generate, {"read": bytes_per_token(params)}


def _stored(folder: str, model: Any) -> dict[str, Any]:
    """Reads the weights that `export` wrote."""
    import jax.numpy as jnp

    from pgjax.checkpoints.huggingface import open_folder

    stored, _ = open_folder(pathlib.Path(folder))
    return {name: jnp.asarray(x.read(), model.llm_dtype) for name, x in stored.items()}


def run_transformers(
    args: argparse.Namespace,
) -> tuple[Callable[[int], np.ndarray], dict[str, Any]]:
    """Returns a function from a number of tokens to int64 [b, t], for the exported weights."""
    import torch
    from transformers import PaliGemmaForConditionalGeneration

    cuda = torch.cuda.is_available()
    where, dtype = ("cuda", torch.bfloat16) if cuda else ("cpu", torch.float32)
    net = PaliGemmaForConditionalGeneration.from_pretrained(args.folder, dtype=dtype)
    return network_answers(net.to(where), args.batch), {}


def network_answers(net: Any, batch: int) -> Callable[[int], np.ndarray]:
    """Returns a function from a number of tokens to int64 [b, t], by transformers, without eos."""
    import torch

    net = net.eval()
    net.generation_config.eos_token_id = None
    config, parameter = net.config, next(net.parameters())
    side = config.vision_config.image_size // config.vision_config.patch_size
    ids = [[config.image_token_index] * side**2 + list(PROMPT)] * batch
    ids = torch.tensor(ids, device=parameter.device)
    images = pixels(batch, config.vision_config.image_size).transpose(0, 3, 1, 2)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.tensor(images, device=parameter.device, dtype=parameter.dtype),
    }

    def generate(tokens: int) -> np.ndarray:
        with torch.no_grad():
            out = net.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        return out[:, ids.shape[1] :].cpu().numpy()

    return generate


RUNS = {"pgjax": run_pgjax, "transformers": run_transformers}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measures, in this process, the better of two times of prefill and of a whole answer."""
    generate, facts = RUNS[args.measure](args)
    prefill, whole = (min(seconds_of(lambda n=n: generate(n), 2)) for n in (1, args.tokens))
    return {
        "prefill": prefill,
        "rate": args.batch * args.tokens / whole,
        "each": (whole - prefill) / (args.tokens - 1),
        "tokens": generate(args.tokens).tolist(),
        **facts,
    }


def table(args: argparse.Namespace) -> list[Row]:
    """Measures everything, and returns the rows of the table."""
    rows, top = [], peaks()
    with tempfile.TemporaryDirectory() as temporary:
        subjects, folder = ["pgjax"], ""
        if args.size != "3b":
            folder = f"{temporary}/model"
            export(pathlib.Path(folder), args.size)
            if installed("torch", "transformers") and not args.quantize:
                subjects.append("transformers")
        for batch in args.batches:
            flags = [f"--size={args.size}", f"--batch={batch}", f"--tokens={args.tokens}"]
            flags += [f"--folder={folder}", f"--quantize={args.quantize}"]
            results = measure_in_turn(__file__, subjects, args.repeats, flags)
            answers = [r["tokens"] for found in results.values() for r in found]
            same = all(answer == answers[0] for answer in answers)
            for name, found in filter(lambda item: item[1], results.items()):
                each = f"{args.size} answers, batch {batch}, {name}"
                spread = [r["rate"] for r in found]
                rows += [
                    Row(f"{each}: prefill", median(found, "prefill"), "s"),
                    Row(f"{each}: per token after it", 1000 * median(found, "each"), "ms"),
                    Row(f"{each}: in all", median(found, "rate"), "tokens/s",
                        f"{min(spread):.1f}-{max(spread):.1f}"),
                ]  # fmt: skip
                if top and "read" in found[0]:
                    share = found[0]["read"] / median(found, "each") / top[1]
                    rows.append(Row(f"{each}: of the memory bandwidth", 100 * share, "%"))
            if len(subjects) == 2 and all(results.values()):
                ratio = median(results["pgjax"], "rate") / median(results["transformers"], "rate")
                what = f"{args.size} answers, batch {batch}: pgjax over transformers"
                rows.append(Row(what, ratio, "×", f"tokens {'the same' if same else 'DIFFER'}"))
    return rows


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this benchmark."""
    parser.add_argument("--size", choices=list(SIZES), default="mid", help="the model")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="batch sizes")
    parser.add_argument("--tokens", type=int, default=64, help="the length of answers")
    parser.add_argument(
        "--quantize", default="", help="int8, int4 or nf4, which measures pgjax alone"
    )
    parser.add_argument("--repeats", type=int, default=3, help="the number of rounds")


def main() -> None:
    """Prints the table, or measures one subject."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_flags(parser)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args)))
        return
    for row in table(args):
        print(row)


if __name__ == "__main__":
    main()
