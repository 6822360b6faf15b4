"""Compiled programs that generate text: a batch of images and prompts in, tokens out."""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import sharding, trees
from pgjax.decoding import box_lists
from pgjax.decoding.box_lists import BoxList
from pgjax.decoding.decoders import make_decoder, make_sampler
from pgjax.decoding.generate import Extend, Generated, Prefill, Rules, advance, begin
from pgjax.errors import UserError
from pgjax.inference.decoding_options import ProgramOptions
from pgjax.loading.compiler_options import compiler_options
from pgjax.loading.model_context import Flat, ModelContext
from pgjax.models.paligemma import Cache
from pgjax.text.locations import BINS
from pgjax.text.noise_boxes import separator_ids
from pgjax.text.tokenizer import Tokenizer

# What a batch holds: float32 [B,H,W,3] in -1..1, int32 [B,L] three times (the mask of the input is
# bool), bool [B] which rows count, and int32 [B] the place of each row in its source.
INPUTS = ("image", "text", "mask_ar", "mask_input", "_mask", "_index")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # the piece of a byte, which is not its text
_STREAM_EVERY = 4  # tokens between two pieces of a stream


class GenerateFn(Protocol):
    """Generates text for a batch, from what `INPUTS` names.

    `limit` tokens at most are generated, `max_new_tokens` of the program by default. A row draws
    with the key of (seed, its `_index`), whatever else is in its batch.
    """

    def __call__(
        self, params: Flat, batch: Mapping[str, Any], seed: int, limit: int | None = None
    ) -> Generated:
        """Tokens and log-probabilities [B,T] on every device."""
        ...


class StreamFn(Protocol):
    """Generates text for a batch as `GenerateFn` does, and tells every few tokens what there is."""

    def __call__(
        self, params: Flat, batch: Mapping[str, Any], seed: int, limit: int | None = None
    ) -> Iterator[Generated]:
        """Yields all tokens so far; the last value equals that of the `GenerateFn`."""
        ...


def make_generate_fn(context: ModelContext, options: ProgramOptions) -> GenerateFn:
    """Compiles, at the first batch of each shape, one program from prompts to tokens.

    Args:
      context: the model on its mesh, and its tokenizer.
      options: what the program is compiled for; `max_new_tokens` is T.

    Raises:
      UserError: an unknown sampler, or no token left to choose.
    """
    decode = make_decoder(options.sampler)
    masks = _masks(context.tokenizer, options)
    length = options.max_new_tokens

    def generate(params: Flat, batch: Flat, seed: jax.Array, limit: jax.Array) -> Generated:
        prefill = prefill_of(context, params, batch, length, options.cache_dtype)
        extend = extend_of(context, params)
        rules = _rules(batch, seed, limit, *masks)
        return decode(prefill, extend, Cache.take, rules, max_new_tokens=length)

    jitted = jax.jit(
        generate,
        out_shardings=sharding.replicated(context.mesh),
        compiler_options=compiler_options(),
    )

    def call(
        params: Flat, batch: Mapping[str, Any], seed: int, limit: int | None = None
    ) -> Generated:
        with context.traced():
            return jitted(params, batch, np.int32(seed), np.int32(limit or length))

    return call


def make_stream_fn(context: ModelContext, options: ProgramOptions) -> StreamFn:
    """Like `make_generate_fn`, but yields what there is after every few tokens.

    Raises:
      UserError: as `make_generate_fn`, or a sampler that does not choose token by token, such as a
        beam search.
    """
    choose = make_sampler(options.sampler)
    masks = _masks(context.tokenizer, options)
    length = options.max_new_tokens

    @functools.partial(jax.jit, compiler_options=compiler_options())
    def start(params, batch, seed, limit):
        prefill = prefill_of(context, params, batch, length, options.cache_dtype)
        rules = _rules(batch, seed, limit, *masks)
        return rules, begin(prefill, rules, sampler=choose, max_new_tokens=length)

    @functools.partial(jax.jit, donate_argnums=2, compiler_options=compiler_options())
    def go_on(params, rules, state, until):
        return advance(extend_of(context, params), rules, state, sampler=choose, until=until)

    def call(
        params: Flat, batch: Mapping[str, Any], seed: int, limit: int | None = None
    ) -> Iterator[Generated]:
        most = limit or length
        with context.traced():
            rules, state = start(params, batch, np.int32(seed), np.int32(most))
        for until in [*range(_STREAM_EVERY, most, _STREAM_EVERY), most]:
            with context.traced():
                state = go_on(params, rules, state, np.int32(until))
            yield jax.device_get(state.out)
            if bool(state.ended.all()):
                return

    return call


def prefill_of(
    context: ModelContext,
    params: Flat,
    batch: Flat,
    max_new_tokens: int,
    cache_dtype: str | None = None,
) -> Prefill:
    """The function that reads images and prompts, and makes a cache with room for new tokens.

    Args:
      context: of the model, which must be traced in it.
      params: the parameters by name.
      batch: what `INPUTS` names first: image, text and its masks.
      max_new_tokens: columns of the cache beside those of the prompts.
      cache_dtype: of keys and values; None for the decoder's.
    """
    model = context.model

    def prefill() -> tuple[jax.Array, Cache]:
        result: Any = model.apply(
            {"params": trees.unflatten(params)},
            *(batch[k] for k in INPUTS[:4]),
            method="prefill",
            max_new_tokens=max_new_tokens,
            cache_dtype=cache_dtype or model.llm_dtype,
        )
        return result

    return prefill


def extend_of(context: ModelContext, params: Flat) -> Extend:
    """The function that adds one token to every row of a cache."""

    def extend(token: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        variables = {"params": trees.unflatten(params)}
        result: Any = context.model.apply(variables, token, cache, method="extend")
        return result

    return extend


def _rules(
    batch: Flat,
    seed: jax.Array,
    limit: jax.Array,
    stops: np.ndarray,
    allowed: np.ndarray,
    boxes: BoxList | None,
) -> Rules:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), batch["_index"])
    return Rules(keys, limit, batch["_mask"], jnp.asarray(allowed), jnp.asarray(stops), boxes)


def _masks(
    tokenizer: Tokenizer, options: ProgramOptions
) -> tuple[np.ndarray, np.ndarray, BoxList | None]:
    stops, allowed = token_masks(tokenizer, options.stop, options.allowed, options.forbidden)
    if not options.objects:
        return stops, allowed, None
    boxes = box_list(tokenizer, options.objects, allowed)
    return stops, np.ones_like(allowed), boxes


def box_list(tokenizer: Tokenizer, objects: int, allowed: np.ndarray) -> BoxList:
    """How an answer is written that lists some boxes, as `pgjax.text.noise_boxes` makes targets.

    Args:
      tokenizer: of the model; V is the size of its vocabulary.
      objects: how many boxes.
      allowed: bool [V], tokens that labels may have. `<unk>`, the class of noise, never comes, nor
        do tokens that would not be read back as part of a label.

    Raises:
      UserError: no token is left for labels.
    """
    between, semicolon = separator_ids(tokenizer)
    kinds = np.full(tokenizer.vocab_size, box_lists.NEVER, np.int8)
    for token in np.flatnonzero(allowed).tolist():
        text = tokenizer.text_of(token)
        if text is not None and not set(text) & set("<>;\n"):
            kinds[token] = box_lists.LABEL if text.strip() else box_lists.BLANK
    if not (kinds == box_lists.LABEL).any():
        raise UserError("allowed and forbidden leave no token for labels to choose.")
    first = tokenizer.loc_id(0)
    kinds[first : first + BINS] = box_lists.LOCATION
    kinds[between[semicolon]] = box_lists.SEMICOLON
    kinds[between[:semicolon]] = box_lists.BLANK
    kinds[tokenizer.eos_id] = box_lists.END
    gap = jnp.array(between[semicolon + 1 :], jnp.int32)
    return BoxList(jnp.int32(objects), jnp.asarray(kinds), gap)


def token_masks(
    tokenizer: Tokenizer,
    stop: Sequence[str],
    allowed: Sequence[str] | None,
    forbidden: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens end an answer, and which may be chosen: bool [V] each.

    Args:
      tokenizer: of the model; V is the size of its vocabulary.
      stop: texts that end an answer. A token that holds a whole one ends the row, as eos does; one
        that spans several tokens is found in the text, by `pgjax.inference.answer.read_answer`.
      allowed: words whose tokens, and eos, may be chosen; None for all tokens.
      forbidden: words whose tokens may not be chosen.

    Raises:
      UserError: no token left to choose.
    """
    stops = np.zeros(tokenizer.vocab_size, bool)
    stops[tokenizer.eos_id] = True
    if stop:
        wanted = [text.replace(" ", "\u2581") for text in stop]
        for token in range(tokenizer.vocab_size):
            piece = tokenizer.piece(token)
            if any(text in piece for text in wanted) and not _BYTE.fullmatch(piece):
                stops[token] = True
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


def local_rows(batch_rows: int) -> slice:
    """The rows of a global batch that belong to this process."""
    each = batch_rows // jax.process_count()
    return slice(jax.process_index() * each, (jax.process_index() + 1) * each)
