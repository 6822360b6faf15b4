"""PaliGemma (Beyer et al., arXiv:2407.07726): one decoder over image tokens and text.

The sequence is `[image tokens][bos][prefix]["\\n"][suffix][eos][pad]`, with full attention over
image and prefix, and causal attention over the suffix.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32, Int32

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


def make_attn_mask(
    valid: Bool[jax.Array, "b t"], mask_ar: Int32[jax.Array, "b t"]
) -> Bool[jax.Array, "b t t"]:
    """Makes a block-wise causal attention mask.

    A 1 in `mask_ar` starts a new block; a token attends to every valid token of its own block and
    of the blocks before. `[0 0 0 1 1]` is a prefix of three and a causal suffix of two,
    `[1 1 1]` is purely causal, `[0 0 1 0 1 0]` is three blocks of two.

    Args:
      valid: bool [B,T], False for padding, which takes part in no attention.
      mask_ar: int32 [B,T].

    Returns:
      bool [B,T,T], in which [b,i,j] is True where token i attends to token j.
    """
    block = jnp.cumsum(mask_ar, axis=1)
    causal = block[:, None, :] <= block[:, :, None]
    return causal & valid[:, None, :] & valid[:, :, None]


@flax.struct.dataclass
class Cache:
    """The state that decoding passes from one token to the next.

    Its columns are the image tokens, then the prompt's text with its padding, which no token
    attends to, then one column per decoded token.
    """

    layers: LayersCache  # keys and values in the cache dtype
    valid: Bool[jax.Array, "b s"]  # columns that hold a token to attend to
    length: Int32[jax.Array, " b"]  # valid tokens so far, which is the position of the next one
    column: Int32[jax.Array, ""]  # where the next token is written

    def take(self, rows: Int32[jax.Array, " m"]) -> "Cache":
        """Returns the cache of the given rows; `pgjax.sharding.take_rows` says which may be taken.

        Args:
          rows: int32 [M].
        """
        layers = jax.tree.map(lambda x: take_rows(x, rows, x.ndim - 4), self.layers)
        valid, length = (take_rows(x, rows) for x in (self.valid, self.length))
        return Cache(layers, valid, length, self.column)

    def part(self, start: int, count: int) -> "Cache":
        """Returns the cache of `count` rows from `start`; the rows lie on one device."""

        def cut(x: jax.Array, axis: int) -> jax.Array:
            return jax.lax.slice_in_dim(x, start, start + count, axis=axis)

        layers = jax.tree.map(lambda x: cut(x, x.ndim - 4), self.layers)
        return Cache(layers, cut(self.valid, 0), cut(self.length, 0), self.column)

    def put(self, other: "Cache", start: Int32[jax.Array, ""] | int) -> "Cache":
        """Returns the cache with its rows from `start` replaced by those of another one.

        Args:
          other: of the same layers, with as many columns or fewer; further ones become invalid.
          start: int32 scalar.
        """

        def write(x: jax.Array, y: jax.Array, axis: int) -> jax.Array:
            return jax.lax.dynamic_update_slice_in_dim(x, y, start, axis=axis)

        layers = jax.tree.map(lambda x, y: write(x, y, x.ndim - 4), self.layers, other.layers)
        blank = self.valid.shape[1] - other.valid.shape[1]
        valid = write(self.valid, jnp.pad(other.valid, ((0, 0), (0, blank))), 0)
        return Cache(layers, valid, write(self.length, other.length, 0), self.column)


class PaliGemma(nn.Module):
    """SigLIP with a linear head, and Gemma; their parameters are under `img` and `llm`."""

    img_config: SiglipConfig
    llm_config: GemmaConfig
    num_patches: int
    img_dtype: jnp.dtype = jnp.float32
    llm_dtype: jnp.dtype = jnp.float32
    remat: str = "full"
    lora: Lora = Lora()
    attention: str = AUTO  # see pgjax.models.attention

    def setup(self):  # noqa: D102
        shared = (self.remat, self.lora, self.attention)
        width = self.llm_config.width
        self.img = Siglip(self.img_config, width, self.num_patches, self.img_dtype, *shared)
        self.llm = Gemma(self.llm_config, self.llm_dtype, *shared)

    @property
    def has_dropout(self) -> bool:
        """Whether a training step draws random numbers for dropout."""
        return bool(self.img_config.dropout or self.llm_config.dropout or self.lora.dropout)

    def embed_image(
        self, image: Float32[jax.Array, "b *f h w 3"], deterministic: bool = True
    ) -> Float32[jax.Array, "b p d"]:
        """Encodes images; the tokens of an example's several images are concatenated.

        Args:
          image: float32 [B,H,W,3] or [B,F,H,W,3] in [-1,1].
          deterministic: switches dropout off.

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
        image: Float32[jax.Array, "b *f h w 3"],
        text: Int32[jax.Array, "b t"],
        mask_ar: Int32[jax.Array, "b t"],
        mask_input: Bool[jax.Array, "b t"] | None = None,
        deterministic: bool = True,
    ) -> Float[jax.Array, "b t d"]:
        """Computes hidden states at the text positions, which `logits` turns into logits.

        Args:
          image: float32 [B,(F,)H,W,3] in [-1,1].
          text: int32 [B,T].
          mask_ar: int32 [B,T], see `make_attn_mask`.
          mask_input: bool [B,T], False on padding; None where padding only follows causal text, as
            in training, so that no token attends to it anyway.
          deterministic: switches dropout off.

        Returns:
          [B,T,D] after the final norm, in the decoder's dtype.
        """
        x, num_img = self._embed(image, text, deterministic)
        valid = jnp.ones(text.shape, bool) if mask_input is None else mask_input
        valid, mask_ar = _prepend_image(valid, mask_ar, num_img)
        positions = _positions(valid)
        mask = make_attn_mask(valid, mask_ar)
        hidden, _ = self.llm(x, positions, mask, deterministic=deterministic)
        return constrain(hidden[:, num_img:], "batch", None, None)

    def logits(self, hidden: Float[jax.Array, "*b d"]) -> Float32[jax.Array, "*b v"]:
        """Turns hidden states [...,D] after the final norm into float32 logits [...,V]."""
        return self.llm.logits(hidden)

    def prefill(
        self,
        image: Float32[jax.Array, "b *f h w 3"],
        text: Int32[jax.Array, "b t"],
        mask_ar: Int32[jax.Array, "b t"],
        mask_input: Bool[jax.Array, "b t"],
        *,
        max_new_tokens: int,
        cache_dtype: jnp.dtype,
    ) -> tuple[Float32[jax.Array, "b v"], Cache]:
        """Runs prompts of different lengths, and fills a cache with room for new tokens.

        Args:
          image: float32 [B,(F,)H,W,3] in [-1,1].
          text: int32 [B,T], with each row's prompt at its start.
          mask_ar: int32 [B,T], see `make_attn_mask`.
          mask_input: bool [B,T], False on padding.
          max_new_tokens: how often `extend` may be called.
          cache_dtype: dtype of the keys and values in the cache.

        Returns:
          (float32 logits [B,V] of the token after each row's last valid one, cache).
        """
        x, num_img = self._embed(image, text, deterministic=True)
        valid, mask_ar = _prepend_image(mask_input, mask_ar, num_img)
        positions = _positions(valid)
        b, t = valid.shape
        layers = self.llm.empty_cache(b, t + max_new_tokens, cache_dtype)
        mask = jnp.pad(make_attn_mask(valid, mask_ar), ((0, 0), (0, 0), (0, max_new_tokens)))
        hidden, layers = self.llm(x, positions, mask, layers, jnp.int32(0))
        assert layers is not None, "the decoder returns the cache that it was given"
        length = valid.sum(axis=1, dtype=jnp.int32)
        last = jnp.take_along_axis(hidden, (length - 1)[:, None, None], axis=1)[:, 0]
        valid = jnp.pad(valid, ((0, 0), (0, max_new_tokens)))
        return self.logits(last), Cache(layers, valid, length, jnp.int32(t))

    def extend(
        self, token: Int32[jax.Array, " b"], cache: Cache
    ) -> tuple[Float32[jax.Array, "b v"], Cache]:
        """Appends one token to every row.

        Args:
          token: int32 [B].
          cache: from `prefill` or `extend`, with a free column.

        Returns:
          (float32 logits [B,V] of the token after it, cache).
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
        assert layers is not None, "the decoder returns the cache that it was given"
        return self.logits(hidden[:, 0]), Cache(layers, valid, cache.length + 1, cache.column + 1)


def _prepend_image(
    valid: jax.Array, mask_ar: jax.Array, num_img: int
) -> tuple[jax.Array, jax.Array]:
    """Puts `num_img` valid columns of the prefix's attention block before both [B,T] masks."""
    pad = ((0, 0), (num_img, 0))
    return jnp.pad(valid, pad, constant_values=True), jnp.pad(mask_ar, pad)


def _positions(valid: jax.Array) -> jax.Array:
    """Numbers the valid tokens of each row: bool [B,T] -> int32 [B,T]."""
    return jnp.cumsum(valid, axis=1, dtype=jnp.int32) - 1


def num_patches(res: int, patch_size: tuple[int, int]) -> int:
    """Returns the number of image tokens of a square image of `res` pixels a side.

    Raises:
      UserError: the patches do not tile the image.
    """
    if res % patch_size[0] or res % patch_size[1]:
        raise UserError(f"model.res {res} is not a multiple of the patch size {patch_size}.")
    return (res // patch_size[0]) * (res // patch_size[1])


def make_model(spec: dict[str, Any]) -> PaliGemma:
    """Builds the module from the section `model` of a config.

    Args:
      spec: `dict(res=, img={…}, llm={…}, img_dtype=, llm_dtype=, remat=, lora=, attention=)`, of
        which `res`, `img` and `llm` are required.

    Raises:
      UserError: a variant or key is unknown, or sizes do not fit together.
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
    """Returns a model's sizes as exports write them: `dict(res=, img={…}, llm={…})`."""
    side = round(model.num_patches**0.5)
    img, llm = dataclasses.asdict(model.img_config), dataclasses.asdict(model.llm_config)
    return {"res": side * img["patch_size"][0], "img": img, "llm": llm}


def abstract_params(model: PaliGemma) -> dict[str, Any]:
    """Returns the parameter tree without using memory for its values.

    Returns:
      A nested dict of `nn.Partitioned` boxes, each with logical axis names and a
      `jax.ShapeDtypeStruct`.
    """
    return jax.eval_shape(model.init, jax.random.key(0), *_dummy(model))["params"]


def init_params(model: PaliGemma, key: jax.Array) -> dict[str, Any]:
    """Draws random float32 parameters, and returns them as a nested dict of arrays."""
    return nn.unbox(model.init(key, *_dummy(model))["params"])


def _dummy(model: PaliGemma) -> tuple[jax.Array, ...]:
    patch_h, patch_w = model.img_config.patch_size
    image = jnp.zeros((1, patch_h * model.num_patches, patch_w, 3), jnp.float32)
    text = jnp.zeros((1, 2), jnp.int32)
    return image, text, text
