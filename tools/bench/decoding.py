"""Greedy tokens per second on this machine's CPU: pgjax against transformers.

    pip install -e '.[live]'
    python tools/bench/decoding.py [--batches 1 8] [--tokens 64] [--repeats 3]

The `mid` model with the real vocabulary (257,152) and the same random float32 weights for both, 224
pixels, a prompt of 8 tokens, eos never. Each measurement is a process of its own, one after the
other; prefill counts, compiling and loading do not. The tokens must be the same.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

PROMPT = (2, 1000, 2000, 3000, 4000, 5000, 6000, 108)
SPEC = {"res": 224, "img": {"variant": "mid/14"}, "llm": {"variant": "gemma_mid"}}


def pixels(batch: int) -> np.ndarray:
    """float32 [B,224,224,3] in [-1,1]."""
    return np.random.default_rng(0).uniform(-1, 1, (batch, 224, 224, 3)).astype(np.float32)


def export(folder: pathlib.Path) -> None:
    """Writes random weights."""
    import dataclasses

    import jax

    from pgjax import trees
    from pgjax.checkpoints.hf_export import write_folder
    from pgjax.checkpoints.tensors import InMemory
    from pgjax.models.paligemma import init_params, make_model

    model = make_model(SPEC)
    flat = trees.flatten(init_params(model, jax.random.key(0)))
    spec = {
        "res": 224,
        "img": dataclasses.asdict(model.img_config),
        "llm": dataclasses.asdict(model.llm_config),
    }
    write_folder(folder, {k: InMemory(np.asarray(x)) for k, x in flat.items()}, spec)


def run_pgjax(folder: pathlib.Path, batch: int, tokens: int):
    """Returns a function that generates int32 [B,T]."""
    import jax
    import jax.numpy as jnp

    from pgjax import trees
    from pgjax.checkpoints.huggingface import open_folder
    from pgjax.decoding.decoders import make_decoder
    from pgjax.decoding.generate import plain_rules
    from pgjax.inference.arrange import arrange
    from pgjax.models.paligemma import Cache, make_model

    stored, spec = open_folder(folder)
    model = make_model({**spec, "remat": "none"})
    params = {name: jnp.asarray(x.read()) for name, x in stored.items()}
    params |= arrange(params)  # as pgjax.load does
    rules = plain_rules(batch, spec["llm"]["vocab_size"], limit=tokens, eos_id=-1)
    decode = make_decoder("greedy")

    @jax.jit
    def generate(params, image, text):
        variables = {"params": trees.unflatten(params)}
        options = {"max_new_tokens": tokens, "cache_dtype": "float32", "method": "prefill"}
        zeros, ones = jnp.zeros_like(text), jnp.ones(text.shape, bool)
        return decode(
            lambda: model.apply(variables, image, text, zeros, ones, **options),
            lambda token, cache: model.apply(variables, token, cache, method="extend"),
            Cache.take,
            rules,
            max_new_tokens=tokens,
        ).tokens

    image, text = jnp.asarray(pixels(batch)), jnp.tile(jnp.asarray(PROMPT, jnp.int32), (batch, 1))
    return lambda: np.asarray(generate(params, image, text))


def run_transformers(folder: pathlib.Path, batch: int, tokens: int):
    """Returns a function that generates int64 [B,T]."""
    import torch
    from transformers import PaliGemmaForConditionalGeneration

    model = PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    ids = torch.tensor([[model.config.image_token_index] * 256 + list(PROMPT)] * batch)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.tensor(pixels(batch).transpose(0, 3, 1, 2)),
    }

    def generate():
        with torch.no_grad():
            out = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        return out[:, ids.shape[1] :].numpy()

    return generate


RUNS = {"pgjax": run_pgjax, "transformers": run_transformers}


def measure(name: str, folder: pathlib.Path, batch: int, tokens: int) -> dict:
    """In a process of its own: seconds of the better of two runs after one to warm up."""
    generate = RUNS[name](folder, batch, tokens)
    generate()
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        out = generate()
        best = min(best, time.perf_counter() - start)
    return {"rate": batch * tokens / best, "tokens": out.tolist()}


def main() -> None:
    """Prints a line per batch size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)  # name, folder, batch
    args = parser.parse_args()
    if args.measure:
        name, folder, batch = args.measure
        print(json.dumps(measure(name, pathlib.Path(folder), int(batch), args.tokens)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "model"
        export(folder)
        for batch in args.batches:
            rates, answers = {name: [] for name in RUNS}, []
            for _ in range(args.repeats):
                for name in RUNS:
                    command = [sys.executable, __file__, f"--tokens={args.tokens}"]
                    command += ["--measure", name, str(folder), str(batch)]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    result = json.loads(done.stdout.splitlines()[-1])
                    rates[name].append(result["rate"])
                    answers.append(result["tokens"])
            same = all(a == answers[0] for a in answers)
            ours, theirs = (sorted(r)[len(r) // 2] for r in rates.values())
            spread = {name: f"{min(r):.1f}-{max(r):.1f}" for name, r in rates.items()}
            print(
                f"batch {batch}: pgjax {ours:.1f} tokens/s, transformers {theirs:.1f}, ratio "
                f"{ours / theirs:.2f} (medians; {spread}); tokens "
                f"{'the same' if same else 'DIFFER'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
