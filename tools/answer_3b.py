"""Answers a prompt with a randomly initialised PaliGemma-3B in half precision on this machine.

    python tools/answer_3b.py [--image photo.jpg] [--prompt "caption en"] [--tokens 8]

This shows that the full-size model, of 2,923,335,408 parameters at 224 px, runs, and how much
memory it takes. The weights are random, so the answer has no meaning.
"""

import argparse
import functools
import math
import os
import resource
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from pgjax import trees
from pgjax.data.pipeline import Pipeline
from pgjax.decoding.generate import generate, plain_rules
from pgjax.decoding.samplers import greedy
from pgjax.models.paligemma import abstract_params, make_model
from pgjax.text.tokenizer import Tokenizer


def random_params(model, dtype: jnp.dtype) -> dict[str, jax.Array]:
    """Draws small random parameters, a layer at a time, so that no float32 copy is made."""
    flat = trees.flatten(nn.unbox(abstract_params(model)))
    keys = jax.random.split(jax.random.key(0), len(flat))

    @functools.partial(jax.jit, static_argnums=1)
    def draw(key, shape):
        # Slices keep the generator's temporaries small, which are several times as large.
        slices = math.gcd(shape[0], 256) if len(shape) == 2 else shape[0]
        part = (shape[0] // slices, *shape[1:])
        values = jax.lax.map(
            lambda k: (jax.random.normal(k, part, jnp.bfloat16) * 0.02).astype(dtype),
            jax.random.split(key, slices),
        )
        return values.reshape(shape)

    return {n: draw(k, x.shape) for k, (n, x) in zip(keys, flat.items(), strict=True)}


def peak_gib() -> float:
    """Returns the largest resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Builds the model, answers the prompt, and prints times and memory."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--image", default="tests/photos/flower.jpg", help="the image to ask about")
    parser.add_argument("--prompt", default="caption en", help="the prompt")
    parser.add_argument("--tokens", type=int, default=8, help="the number of tokens to generate")
    parser.add_argument(
        "--dtype",
        default="bfloat16",
        choices=("bfloat16", "float16"),
        help="the dtype of parameters and cache",
    )
    args = parser.parse_args()
    dtype = jnp.dtype(args.dtype)
    # A CPU computes in float32, to which it converts one layer at a time.
    compute = "float32" if jax.default_backend() == "cpu" else args.dtype
    model = make_model(
        {
            "res": 224,
            "img": {"variant": "So400m/14"},
            "llm": {"variant": "gemma_2b"},
            "img_dtype": compute,
            "llm_dtype": compute,
        }
    )
    # The real tokenizer requires a licence. The packaged one has the same layout, and its ids exist
    # in the large vocabulary.
    tokenizer = Tokenizer.tiny()
    pipeline = Pipeline.parse(
        "decode|resize(224, antialias=True)|value_range(-1, 1)|for_answering(16)", tokenizer
    )
    with open(args.image, "rb") as f:
        example = pipeline({"image": f.read(), "prefix": args.prompt})
    batch = [example[k][None] for k in ("image", "text", "mask_ar", "mask_input")]

    start = time.perf_counter()
    params = jax.block_until_ready(random_params(model, dtype))
    count = sum(x.size for x in params.values())
    print(f"{count:,} parameters in {args.dtype}; {time.perf_counter() - start:.0f} s; "
          f"peak memory {peak_gib():.2f} GiB")  # fmt: skip

    @jax.jit
    def answer(params):
        variables = {"params": trees.unflatten(params)}
        return generate(
            lambda: model.apply(
                variables, *batch, max_new_tokens=args.tokens, cache_dtype=dtype, method="prefill"
            ),
            lambda token, cache: model.apply(variables, token, cache, method="extend"),
            plain_rules(1, model.llm_config.vocab_size, limit=args.tokens, eos_id=tokenizer.eos_id),
            sampler=greedy,
            max_new_tokens=args.tokens,
        )

    start = time.perf_counter()
    out = jax.block_until_ready(answer(params))
    tokens = np.asarray(out.tokens)[0]
    if not np.isfinite(np.asarray(out.logprobs)).all():
        raise SystemExit("error: the log-probabilities are not finite.")
    print(f"prompt {args.prompt!r} → tokens {tokens.tolist()}, {time.perf_counter() - start:.0f} s")
    print(f"peak memory {peak_gib():.2f} GiB")


if __name__ == "__main__":
    main()
