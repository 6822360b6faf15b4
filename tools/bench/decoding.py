"""Answers: time of prefill, and greedy tokens per second, against transformers.

    python tools/bench/decoding.py [--size mid] [--batches 1 8] [--tokens 64] [--repeats 3]

Random weights, the same for both (`3b`: pgjax alone), a prompt of 8 tokens, eos never. Each
measurement is a process of its own, in turn; loading and compiling do not count. Prefill is an
answer of one token; the rate counts all tokens of an answer and its prefill, the time per token
only what comes after. The tokens of both must be the same. On a GPU the share of the memory
bandwidth is shown that reading the decoder's parameters once per token takes.
"""

import argparse
import functools
import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from common import SIZES, Row, installed, measure_in_turn, median, peaks, seconds_of

PROMPT = (2, 1000, 1100, 1200, 1300, 1400, 1500, 108)


def pixels(batch: int, res: int) -> np.ndarray:
    """float32 [B,R,R,3] in [-1,1]."""
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


def run_pgjax(args: argparse.Namespace) -> tuple[Callable[[int], np.ndarray], dict[str, Any]]:
    """`tokens -> int32 [B,T]`, as `pgjax.load` has it, and the bytes read for each token."""
    import jax
    import jax.numpy as jnp

    from pgjax import trees
    from pgjax.decoding.decoders import make_decoder
    from pgjax.decoding.generate import plain_rules
    from pgjax.inference.arrange import arrange
    from pgjax.inference.compiling import compiler_options
    from pgjax.inference.precision import precision_here
    from pgjax.models.paligemma import Cache, make_model

    p = precision_here()
    model = make_model(
        {**SIZES[args.size], "img_dtype": p.img, "llm_dtype": p.llm, "remat": "none"}
    )
    params = _params(args, model, p.llm)
    params |= arrange(params, kind=args.quantize or None)
    decode, batch = make_decoder("greedy"), args.batch
    image = jnp.asarray(pixels(batch, SIZES[args.size]["res"]))
    text = jnp.tile(jnp.asarray(PROMPT, jnp.int32), (batch, 1))

    def program(tokens: int):
        rules = plain_rules(batch, model.llm_config.vocab_size, limit=tokens, eos_id=-1)

        @functools.partial(jax.jit, compiler_options=compiler_options())
        def generate(params, image, text):
            variables = {"params": trees.unflatten(params)}
            options = {"max_new_tokens": tokens, "cache_dtype": p.llm, "method": "prefill"}
            zeros, ones = jnp.zeros_like(text), jnp.ones(text.shape, bool)
            return decode(
                lambda: model.apply(variables, image, text, zeros, ones, **options),
                lambda token, cache: model.apply(variables, token, cache, method="extend"),
                Cache.take,
                rules,
                max_new_tokens=tokens,
            ).tokens

        return generate

    programs = {tokens: program(tokens) for tokens in (1, args.tokens)}
    read = sum(x.nbytes for n, x in params.items() if n.startswith("llm/"))
    return lambda tokens: np.asarray(programs[tokens](params, image, text)), {"read": read}


def _params(args, model, dtype):
    import jax
    import jax.numpy as jnp

    if args.folder:
        from pgjax.checkpoints.huggingface import open_folder

        stored, _ = open_folder(pathlib.Path(args.folder))
        return {name: jnp.asarray(x.read(), dtype) for name, x in stored.items()}
    import flax.linen as nn

    from pgjax import trees
    from pgjax.models.paligemma import abstract_params

    flat = trees.flatten(nn.unbox(abstract_params(model)))
    draw = jax.jit(
        lambda key, shape: jax.random.normal(key, shape, dtype) * jnp.asarray(0.02, dtype),
        static_argnums=1,
    )
    keys = jax.random.split(jax.random.key(0), len(flat))
    return {n: draw(k, x.shape) for k, (n, x) in zip(keys, flat.items(), strict=True)}


def run_transformers(
    args: argparse.Namespace,
) -> tuple[Callable[[int], np.ndarray], dict[str, Any]]:
    """`tokens -> int64 [B,T]`."""
    import torch
    from transformers import PaliGemmaForConditionalGeneration

    cuda = torch.cuda.is_available()
    where, dtype = ("cuda", torch.bfloat16) if cuda else ("cpu", torch.float32)
    model = PaliGemmaForConditionalGeneration.from_pretrained(args.folder, dtype=dtype)
    model = model.eval().to(where)
    model.generation_config.eos_token_id = None
    config = model.config
    side = config.vision_config.image_size // config.vision_config.patch_size
    ids = [[config.image_token_index] * side**2 + list(PROMPT)] * args.batch
    ids = torch.tensor(ids, device=where)
    images = pixels(args.batch, config.vision_config.image_size).transpose(0, 3, 1, 2)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.tensor(images, device=where, dtype=dtype),
    }

    def generate(tokens: int) -> np.ndarray:
        with torch.no_grad():
            out = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        return out[:, ids.shape[1] :].cpu().numpy()

    return generate, {}


RUNS = {"pgjax": run_pgjax, "transformers": run_transformers}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own: the better of two times, of prefill and of a whole answer."""
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
    """Measures and returns the lines."""
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
    """What can be set."""
    parser.add_argument("--size", choices=list(SIZES), default="mid")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--quantize", default="", help="int8, int4 or nf4, for pgjax alone")
    parser.add_argument("--repeats", type=int, default=3)


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
