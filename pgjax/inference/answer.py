"""Batches of images and prompts in, answers out."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import sharding, trees
from pgjax.decoding.decoders import make_decoder, make_sampler
from pgjax.decoding.generate import Generated, Rules, advance, begin
from pgjax.errors import UserError
from pgjax.loading.compiler_options import compiler_options
from pgjax.loading.model_context import Flat, ModelContext
from pgjax.models.paligemma import Cache
from pgjax.text.tokenizer import Tokenizer

INPUTS = ("image", "text", "mask_ar", "mask_input", "_mask", "_index")

AnswerFn = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer: its text, and its tokens with their log-probabilities.

    `tokens` int32 [T] and `logprobs` float32 [T] include the eos, if the answer ended.
    """

    text: str
    tokens: np.ndarray
    logprobs: np.ndarray

    @property
    def logprob(self) -> float:
        """Of the whole answer, under the model's unscaled distribution."""
        return float(self.logprobs.sum(dtype=np.float64))


def make_answer_fn(
    context: ModelContext,
    *,
    max_new_tokens: int,
    sampler: str = "greedy",
    cache_dtype: str | None = None,
    stop: tuple[str, ...] = (),
    allowed: tuple[str, ...] | None = None,
    forbidden: tuple[str, ...] = (),
) -> AnswerFn:
    """One compiled program from prompts to tokens.

    Args:
      context: from `open_model_context`.
      max_new_tokens: T, eos included.
      sampler: see `pgjax.decoding.decoders.make_decoder`.
      cache_dtype: of the keys and values; None for that of the decoder.
      stop: texts of one token each that end an answer, as eos does.
      allowed: texts whose tokens alone may be chosen, and eos; None for all.
      forbidden: texts whose tokens may not be chosen.

    Returns:
      `(params, batch, seed, limit=T) -> Generated` with tokens [B,T] on every device. A row
      draws with the key of (seed, its `_index`), whatever else is in its batch.

    Raises:
      UserError: an unknown sampler, or a stop text of several tokens.
    """
    decode = make_decoder(sampler)
    masks = token_masks(context.tokenizer, stop, allowed, forbidden)

    def answer(params: Flat, batch: Flat, seed: jax.Array, limit: jax.Array):
        prefill, extend = _functions(context, params, batch, max_new_tokens, cache_dtype)
        rules = _rules(batch, seed, limit, *masks)
        return decode(prefill, extend, Cache.take, rules, max_new_tokens=max_new_tokens)

    jitted = jax.jit(
        answer,
        out_shardings=sharding.replicated(context.mesh),
        compiler_options=compiler_options(),
    )

    def call(params: Flat, batch: Flat, seed: int, limit: int = max_new_tokens) -> Generated:
        with context.traced():
            return jitted(params, batch, np.int32(seed), np.int32(limit))

    return call


def make_stream_fn(
    context: ModelContext,
    *,
    max_new_tokens: int,
    sampler: str = "greedy",
    cache_dtype: str | None = None,
    stop: tuple[str, ...] = (),
    allowed: tuple[str, ...] | None = None,
    forbidden: tuple[str, ...] = (),
) -> Callable[..., Iterator[Generated]]:
    """Like `make_answer_fn`, but what there is comes after every few tokens.

    Returns:
      `(params, batch, seed, every=4, limit=T)`, an iterator of `Generated`, each with all tokens
      so far; the last one equals what `make_answer_fn` gives.

    Raises:
      UserError: a sampler that does not choose token by token, such as a beam search.
    """
    choose = make_sampler(sampler)
    masks = token_masks(context.tokenizer, stop, allowed, forbidden)

    @functools.partial(jax.jit, compiler_options=compiler_options())
    def start(params, batch, seed, limit):
        prefill, _ = _functions(context, params, batch, max_new_tokens, cache_dtype)
        rules = _rules(batch, seed, limit, *masks)
        return rules, begin(prefill, rules, sampler=choose, max_new_tokens=max_new_tokens)

    def go_on(params, rules, state, until):
        _, extend = _functions(context, params, None, max_new_tokens, cache_dtype)
        return advance(extend, rules, state, sampler=choose, until=until)

    go_on = jax.jit(go_on, donate_argnums=2, compiler_options=compiler_options())

    def call(
        params: Flat, batch: Flat, seed: int, every: int = 4, limit: int = max_new_tokens
    ) -> Iterator[Generated]:
        with context.traced():
            rules, state = start(params, batch, np.int32(seed), np.int32(limit))
        for until in [*range(every, limit, every), limit]:
            with context.traced():
                state = go_on(params, rules, state, np.int32(until))
            yield jax.device_get(state.out)
            if bool(state.ended.all()):
                return

    return call


def _functions(context, params, batch, max_new_tokens, cache_dtype):
    """Prefill and extend of the session's model."""
    model, variables = context.model, {"params": trees.unflatten(params)}
    dtype = cache_dtype or model.llm_dtype

    def prefill():
        inputs = (batch[k] for k in INPUTS[:4])
        options = {"max_new_tokens": max_new_tokens, "cache_dtype": dtype}
        return model.apply(variables, *inputs, method="prefill", **options)

    def extend(token, cache):
        return model.apply(variables, token, cache, method="extend")

    return prefill, extend


def _rules(batch, seed, limit, stops, allowed) -> Rules:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), batch["_index"])
    return Rules(keys, limit, batch["_mask"], jnp.asarray(allowed), jnp.asarray(stops))


def token_masks(
    tokenizer: Tokenizer,
    stop: tuple[str, ...],
    allowed: tuple[str, ...] | None,
    forbidden: tuple[str, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens that end an answer, and tokens that may be chosen: bool [V] each.

    Raises:
      UserError: a stop text that is not one token, or nothing left to choose.
    """
    stops = np.zeros(tokenizer.vocab_size, bool)
    stops[tokenizer.eos_id] = True
    for text in stop:
        ids = tokenizer.encode(text)
        if len(ids) != 1:
            raise UserError(f"stop {text!r} is {len(ids)} tokens, expected one.")
        stops[ids] = True
    may = np.full(tokenizer.vocab_size, allowed is None)
    may[tokenizer.eos_id] = True
    for texts, value in ((allowed or (), True), (forbidden, False)):
        for text in texts:
            may[tokenizer.encode(text)] = value
            if len(inside := tokenizer.encode(f" {text}")) == 1:  # the same word in a sentence
                may[inside] = value
    if not may.any():
        raise UserError("allowed and forbidden leave no token to choose.")
    return stops, may


def read_answer(tokenizer: Tokenizer, tokens: np.ndarray, logprobs: np.ndarray) -> Answer:
    """One row of `Generated`, [T] each, which is blank after its end."""
    count = len(np.trim_zeros(tokens, "b"))
    tokens = tokens[:count]
    return Answer(tokenizer.decode(tokens.tolist()), tokens, logprobs[:count])


def local_rows(batch_rows: int) -> slice:
    """Which rows of a global batch are this process's."""
    each = batch_rows // jax.process_count()
    return slice(jax.process_index() * each, (jax.process_index() + 1) * each)
