"""PaliGemma (Beyer et al., arXiv:2407.07726): image tokens, then text, in one decoder.

Sequence: `[image tokens][bos][prefix]["\\n"][suffix][eos][pad]`, with full attention over image
and prefix and causal attention over the suffix.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from pgjax.errors import UserError
from pgjax.models.attention import AUTO, check_implementation
from pgjax.models.gemma import Gemma, LayersCache
from pgjax.models.lora import Lora, lora_config
from pgjax.models.siglip import Siglip
from pgjax.models.variants import (
    GemmaConfig,
    SiglipConfig,
    float_dtype,
    gemma_config,
    siglip_config,
)
from pgjax.sharding import constrain, take_rows


def make_attn_mask(valid: jax.Array, mask_ar: jax.Array) -> jax.Array:
    """Block-wise causal attention mask.

    A 1 in `mask_ar` starts a new block; tokens see every valid token of their own block and of
    the blocks before. `[0 0 0 1 1]` is a prefix of three and a causal suffix of two,
    `[1 1 1]` is purely causal, `[0 0 1 0 1 0]` is three blocks of two.

    Args:
      valid: bool [B,T], False for padding, which takes part in no attention.
      mask_ar: int32 [B,T].

    Returns:
      bool [B,T,T], [b,i,j] True where i attends to j.
    """
    block = jnp.cumsum(mask_ar, axis=1)
    causal = block[:, None, :] <= block[:, :, None]
    return causal & valid[:, None, :] & valid[:, :, None]


@flax.struct.dataclass
class Cache:
    """Everything that decoding carries from one token to the next.

    The columns are image tokens, then the prompt's text (padding included, but never attended
    to), then one column per decoded token.
    """

    layers: LayersCache  # in the cache dtype
    valid: jax.Array  # bool [B,S]
    length: jax.Array  # int32 [B], valid tokens so far = position of the next one
    column: jax.Array  # int32 scalar, where the next token is written

    def take(self, rows: jax.Array) -> "Cache":
        """The cache of the given rows, int32 [M], see `pgjax.sharding.take_rows`."""
        layers = jax.tree.map(lambda x: take_rows(x, rows, x.ndim - 4), self.layers)
        valid, length = (take_rows(x, rows) for x in (self.valid, self.length))
        return Cache(layers, valid, length, self.column)


class PaliGemma(nn.Module):
    """SigLIP, a linear head, and Gemma; parameters under `img` and `llm`."""

    img_config: SiglipConfig
    llm_config: GemmaConfig
    num_patches: int
    img_dtype: jnp.dtype = jnp.float32
    llm_dtype: jnp.dtype = jnp.float32
    remat: str = "full"
    lora: Lora = Lora()
    attention: str = AUTO  # see pgjax.models.attention

    def setup(self):  # noqa: D102
        width = self.llm_config.width
        shared = {"remat": self.remat, "lora": self.lora, "attention": self.attention}
        self.img = Siglip(self.img_config, width, self.num_patches, self.img_dtype, **shared)
        self.llm = Gemma(self.llm_config, self.llm_dtype, **shared)

    @property
    def has_dropout(self) -> bool:
        """Whether training draws random numbers."""
        return bool(self.img_config.dropout or self.llm_config.dropout or self.lora.dropout)

    def embed_image(self, image: jax.Array, deterministic: bool = True) -> jax.Array:
        """Encodes images; several per example concatenate their tokens.

        Args:
          image: float32 [B,H,W,3] or [B,F,H,W,3] in [-1,1].
          deterministic: no dropout.

        Returns:
          float32 [B,P,D] or [B,F·P,D].
        """
        *lead, h, w, c = image.shape
        image = constrain(image.reshape(-1, h, w, c), "batch", None, None, None)
        tokens, _ = self.img(image, deterministic)
        return constrain(tokens.reshape(lead[0], -1, tokens.shape[-1]), "batch", None, None)

    def _embed(
        self, image: jax.Array, text: jax.Array, deterministic: bool
    ) -> tuple[jax.Array, int]:
        tokens = self.embed_image(image, deterministic)
        x = jnp.concatenate([tokens.astype(self.llm_dtype), self.llm.embed(text)], axis=1)
        return constrain(x, "batch", None, None), tokens.shape[1]

    def __call__(
        self,
        image: jax.Array,
        text: jax.Array,
        mask_ar: jax.Array,
        mask_input: jax.Array | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        """Hidden states at the text positions; `logits` turns them into logits.

        Args:
          image: float32 [B,(F,)H,W,3] in [-1,1].
          text: int32 [B,T].
          mask_ar: int32 [B,T].
          mask_input: bool [B,T]; None where padding only follows causal text, as in training,
            so that nothing attends to it anyway.
          deterministic: no dropout.

        Returns:
          final-normed [B,T,D] in the decoder's dtype.
        """
        x, num_img = self._embed(image, text, deterministic)
        valid = jnp.ones(text.shape, bool) if mask_input is None else mask_input
        valid, mask_ar = _prepend_image(valid, mask_ar, num_img)
        positions = _positions(valid)
        mask = make_attn_mask(valid, mask_ar)
        hidden, _ = self.llm(x, positions, mask, deterministic=deterministic)
        return constrain(hidden[:, num_img:], "batch", None, None)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Final-normed [...,D] -> float32 [...,V]."""
        return self.llm.logits(hidden)

    def prefill(
        self,
        image: jax.Array,
        text: jax.Array,
        mask_ar: jax.Array,
        mask_input: jax.Array,
        *,
        max_new_tokens: int,
        cache_dtype: jnp.dtype,
    ) -> tuple[jax.Array, Cache]:
        """Runs ragged prompts and fills a cache with room for `max_new_tokens` more.

        Args:
          image: float32 [B,(F,)H,W,3] in [-1,1].
          text: int32 [B,T], each row's prompt at its start.
          mask_ar: int32 [B,T].
          mask_input: bool [B,T], False on padding.
          max_new_tokens: how often `extend` may be called.
          cache_dtype: of the keys and values kept.

        Returns:
          (float32 logits [B,V] for the token after each row's last valid one, cache).
        """
        x, num_img = self._embed(image, text, deterministic=True)
        valid, mask_ar = _prepend_image(mask_input, mask_ar, num_img)
        positions = _positions(valid)
        b, t = valid.shape
        layers = self.llm.empty_cache(b, t + max_new_tokens, cache_dtype)
        mask = jnp.pad(make_attn_mask(valid, mask_ar), ((0, 0), (0, 0), (0, max_new_tokens)))
        hidden, layers = self.llm(x, positions, mask, layers, jnp.int32(0))
        length = valid.sum(axis=1, dtype=jnp.int32)
        last = jnp.take_along_axis(hidden, (length - 1)[:, None, None], axis=1)[:, 0]
        valid = jnp.pad(valid, ((0, 0), (0, max_new_tokens)))
        return self.logits(last), Cache(layers, valid, length, jnp.int32(t))

    def extend(self, token: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Appends one token to every row.

        Args:
          token: int32 [B].
          cache: from `prefill` or `extend`, with a column left.

        Returns:
          (float32 logits [B,V] for the token after it, cache).
        """
        columns = jnp.arange(cache.valid.shape[1], dtype=jnp.int32)
        valid = cache.valid | (columns == cache.column)[None]
        hidden, layers = self.llm(
            self.llm.embed(token[:, None]),
            cache.length[:, None],
            valid[:, None],
            cache.layers,
            cache.column,
        )
        return self.logits(hidden[:, 0]), Cache(layers, valid, cache.length + 1, cache.column + 1)


def _prepend_image(
    valid: jax.Array, mask_ar: jax.Array, num_img: int
) -> tuple[jax.Array, jax.Array]:
    """Adds `num_img` valid columns of the prefix's attention block to both [B,T] masks."""
    pad = ((0, 0), (num_img, 0))
    return jnp.pad(valid, pad, constant_values=True), jnp.pad(mask_ar, pad)


def _positions(valid: jax.Array) -> jax.Array:
    """bool [B,T] -> int32 [B,T], counting valid tokens only."""
    return jnp.cumsum(valid, axis=1, dtype=jnp.int32) - 1


def num_patches(res: int, patch_size: tuple[int, int]) -> int:
    """Image tokens of a square image of `res` pixels.

    Raises:
      UserError: the patches do not tile the image.
    """
    if res % patch_size[0] or res % patch_size[1]:
        raise UserError(f"model.res {res} is not a multiple of the patch size {patch_size}.")
    return (res // patch_size[0]) * (res // patch_size[1])


def make_model(spec: dict[str, Any]) -> PaliGemma:
    """Builds the module from `dict(res=, img={…}, llm={…}, img_dtype=, llm_dtype=, remat=, lora=,
    attention=)`.

    Raises:
      UserError: an unknown variant or key, or sizes that do not go together.
    """
    img, llm = siglip_config(spec["img"]), gemma_config(spec["llm"])
    return PaliGemma(
        img_config=img,
        llm_config=llm,
        num_patches=num_patches(spec["res"], img.patch_size),
        img_dtype=float_dtype(spec.get("img_dtype", "float32"), "model.img_dtype"),
        llm_dtype=float_dtype(spec.get("llm_dtype", "float32"), "model.llm_dtype"),
        remat=spec.get("remat", "full"),
        lora=lora_config(spec.get("lora", {})),
        attention=check_implementation(spec.get("attention", AUTO)),
    )


def explicit(model: PaliGemma) -> dict[str, Any]:
    """The sizes of a model spelled out, `dict(res=, img={…}, llm={…})`, as exports write them."""
    side = round(model.num_patches**0.5)
    img, llm = dataclasses.asdict(model.img_config), dataclasses.asdict(model.llm_config)
    return {"res": side * img["patch_size"][0], "img": img, "llm": llm}


def abstract_params(model: PaliGemma) -> dict[str, Any]:
    """The boxed parameter tree as `jax.ShapeDtypeStruct`, with logical axes, no memory used."""
    return jax.eval_shape(model.init, jax.random.key(0), *_dummy(model))["params"]


def init_params(model: PaliGemma, key: jax.Array) -> dict[str, Any]:
    """Random float32 parameters (unboxed nested dict)."""
    return nn.unbox(model.init(key, *_dummy(model))["params"])


def _dummy(model: PaliGemma) -> tuple[jax.Array, ...]:
    patch_h, patch_w = model.img_config.patch_size
    image = jnp.zeros((1, patch_h * model.num_patches, patch_w, 3), jnp.float32)
    text = jnp.zeros((1, 2), jnp.int32)
    return image, text, text
