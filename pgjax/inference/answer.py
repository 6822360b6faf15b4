"""Batches of images and prompts in, texts out."""

from collections.abc import Callable

import jax
import numpy as np

from pgjax import sharding, trees
from pgjax.decoding.generate import Generated, generate
from pgjax.decoding.samplers import make_sampler
from pgjax.inference.session import Flat, Session

INPUTS = ("image", "text", "mask_ar", "mask_input", "_mask")


def make_answer_fn(
    session: Session, *, max_new_tokens: int, sampler: str = "greedy", cache_dtype: str = "float32"
) -> Callable[[Flat, Flat, jax.Array], Generated]:
    """One compiled program from prompts to tokens.

    Args:
      session: from `open_session`.
      max_new_tokens: T, eos included.
      sampler: `greedy` or `temperature(0.7)`.
      cache_dtype: of the keys and values.

    Returns:
      `(params, batch, key) -> Generated` with tokens [B,T] on every device.
    """
    model = session.model
    choose = make_sampler(sampler)

    def answer(params: Flat, batch: Flat, key: jax.Array) -> Generated:
        variables = {"params": trees.unflatten(params)}
        return generate(
            lambda: model.apply(
                variables,
                *(batch[k] for k in INPUTS[:4]),
                max_new_tokens=max_new_tokens,
                cache_dtype=cache_dtype,
                method="prefill",
            ),
            lambda token, cache: model.apply(variables, token, cache, method="extend"),
            sampler=choose,
            key=key,
            max_new_tokens=max_new_tokens,
            eos_id=session.tokenizer.eos_id,
            row_valid=batch["_mask"],
        )

    jitted = jax.jit(answer, out_shardings=sharding.replicated(session.mesh))

    def call(params: Flat, batch: Flat, key: jax.Array) -> Generated:
        with sharding.use_mesh(session.mesh):
            return jitted(params, batch, key)

    return call


def texts(session: Session, generated: Generated) -> list[str]:
    """Decodes tokens [B,T] of all rows, up to their eos."""
    return [session.tokenizer.decode(row.tolist()) for row in np.asarray(generated.tokens)]


def local_rows(batch_rows: int) -> slice:
    """Which rows of a global batch are this process's."""
    each = batch_rows // jax.process_count()
    return slice(jax.process_index() * each, (jax.process_index() + 1) * each)
