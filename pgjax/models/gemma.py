"""Gemma decoders (arXiv:2403.08295, arXiv:2408.00118) with an explicit key/value cache.

Einsum letters: B rows, T new tokens, S attended tokens, D width, N query heads, K key/value
heads, H head size, F hidden size of the MLP, V vocabulary, C = 2 (key and value; gate and up).
"""

import functools
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32, Int32

from pgjax.models.attention import AUTO, attend, soft_cap
from pgjax.models.embedding import Transposed, dot_rows, take_rows
from pgjax.models.layers import named_init, scan_layers, unstacked_layers
from pgjax.models.lora import Lora, product
from pgjax.models.variants import GemmaConfig
from pgjax.sharding import constrain, constrain_looked_up, data_size

# The most bytes of an MLP's hidden units that may exist for all tokens at once; a backward pass
# holds about six arrays of that size.
_MOST_HIDDEN = 2**29

LayerCache = dict[str, jax.Array]  # keys "k" and "v": [B,S,K,H] each
# The cache of all layers: one dict of [L,B,S,K,H] where they are scanned, else a tuple of L dicts.
LayersCache = LayerCache | tuple[LayerCache, ...]


def _fan_in(in_axis, out_axis, batch_axis=()):
    return nn.initializers.variance_scaling(
        1.0, "fan_in", "normal", in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis
    )


class Einsum(nn.Module):
    """A weight `w` and the einsum that multiplies by it."""

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    in_axis: tuple[int, ...]
    out_axis: tuple[int, ...]
    lora: Lora = Lora()

    @nn.compact
    def __call__(self, eqn: str, x: jax.Array, deterministic: bool) -> tuple[jax.Array, ...]:
        """Applies an einsum to x and w; w is cast to x's dtype, which is the compute dtype.

        Returns:
          One product, or one for each matrix that w holds side by side (letter C).
        """
        batch = tuple(set(range(len(self.shape))) - {*self.in_axis, *self.out_axis})
        return product(
            self,
            eqn,
            x,
            name="w",
            shape=self.shape,
            axes=self.axes,
            init=_fan_in(self.in_axis, self.out_axis, batch),
            lora=self.lora,
            deterministic=deterministic,
        )


class RMSNorm(nn.Module):
    """Root-mean-square norm (arXiv:1910.07467) whose scale is stored as an offset from 1."""

    eps: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes x [...,D] in float32, and returns [...,D] in x's dtype."""
        init = named_init(nn.initializers.zeros_init(), "embed")
        scale = self.param("scale", init, (x.shape[-1],)).astype(jnp.float32)
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.eps)
        return (y * (1.0 + jnp.expand_dims(scale, range(y.ndim - 1)))).astype(x.dtype)


def rope(
    x: Float[jax.Array, "b t n h"], positions: Int32[jax.Array, "b t"], base: float = 10_000.0
) -> Float[jax.Array, "b t n h"]:
    """Applies rotary position embedding to the two halves of each head (arXiv:2104.09864).

    Args:
      x: [B,T,N,H].
      positions: int32 [B,T].
      base: the longest wavelength divided by 2π.

    Returns:
      [B,T,N,H] in x's dtype; angles and rotation are computed in float32.
    """
    half = x.shape[-1] // 2
    wavelength = base ** (jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[:, :, None, None].astype(jnp.float32) / wavelength[None, None, None, :]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    x1, x2 = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1).astype(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention with the parameters q_einsum, kv_einsum and attn_vec_einsum."""

    config: GemmaConfig
    lora: Lora = Lora()
    attention: str = AUTO

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        cache: LayerCache | None,
        positions: jax.Array,
        mask: jax.Array,
        start: jax.Array | None,
        deterministic: bool,
    ) -> tuple[jax.Array, LayerCache | None]:
        """Attends from T new tokens to themselves, or to the tokens of a cache.

        Args:
          x: [B,T,D].
          cache: keys and values [B,S,K,H], or None.
          positions: int32 [B,T].
          mask: bool [B,T,S], True where a query may attend; S is T without a cache.
          start: int32 scalar, the cache column of the first new token; None without a cache.
          deterministic: switches dropout off.

        Returns:
          ([B,T,D], the cache with T new columns from `start`, or None).
        """
        c = self.config
        n, k, h, d = c.num_heads, c.num_kv_heads, c.head_dim, c.width
        einsum = functools.partial(Einsum, lora=self.lora)
        q_einsum = einsum((n, d, h), ("heads", "embed", "head_dim"), (1,), (2,), name="q_einsum")
        kv_einsum = einsum(
            (2, k, d, h), (None, "kv_heads", "embed", "head_dim"), (2,), (3,), name="kv_einsum"
        )
        out_einsum = einsum(
            (n, h, d), ("heads", "head_dim", "embed"), (0, 1), (2,), name="attn_vec_einsum"
        )
        split, split_kv = (("batch", None, name, None) for name in ("heads", "kv_heads"))
        (q,) = q_einsum("BTD,NDH->BTNH", x, deterministic)
        q = rope(constrain(q, *split), positions)
        key, value = (
            constrain(y, *split_kv) for y in kv_einsum("BTD,CKDH->CBTKH", x, deterministic)
        )
        key = rope(key, positions)
        if cache is not None:
            assert start is not None, "a cache comes with the column to write to"
            cache = {
                name: constrain(
                    jax.lax.dynamic_update_slice_in_dim(
                        cache[name], new.astype(cache[name].dtype), start, axis=1
                    ),
                    *split_kv,
                )
                for name, new in (("k", key), ("v", value))
            }
            key, value = cache["k"].astype(q.dtype), cache["v"].astype(q.dtype)
        y = attend(q, key, value, mask, c.query_scale, c.attn_softcap, self.attention)
        (y,) = out_einsum("BTNH,NHD->BTD", constrain(y, *split), deterministic)
        return y, cache


class FeedForward(nn.Module):
    """Gated tanh-GELU MLP with the parameters gating_einsum [C,D,F] and linear [F,D]."""

    mlp_dim: int
    lora: Lora = Lora()
    in_parts: bool = False  # whether large hidden layers may be recomputed one part at a time

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        """Maps x [B,T,D] to [B,T,D], one part of T at a time where hidden units take much memory.

        On several devices all of T is done at once, because each part would gather the matrices
        again.
        """
        b, t, d = x.shape
        hidden_bytes = b * t * self.mlp_dim * x.dtype.itemsize
        if not self.in_parts or hidden_bytes <= _MOST_HIDDEN or data_size() > 1:
            return self._of_part(x, deterministic)
        parts = -(-2 * hidden_bytes // _MOST_HIDDEN)
        x = jnp.pad(x, ((0, 0), (0, -t % parts), (0, 0))).reshape(b, parts, -1, d)
        one = nn.remat(FeedForward._of_part, prevent_cse=False, static_argnums=(2,))
        _, y = nn.scan(
            lambda self, _, x: (None, one(self, x, deterministic)),
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": True},
            in_axes=1,
            out_axes=1,
        )(self, None, x)
        return y.reshape(b, -1, d)[:, :t]

    def _of_part(self, x: jax.Array, deterministic: bool) -> jax.Array:
        d = x.shape[-1]
        f = self.mlp_dim
        multiply = functools.partial(product, self, lora=self.lora, deterministic=deterministic)
        gate, up = multiply(
            "BTD,CDF->CBTF",
            x,
            name="gating_einsum",
            shape=(2, d, f),
            axes=(None, "embed", "mlp"),
            init=_fan_in((1,), (2,), (0,)),
        )
        gate, up = (constrain(y, "batch", None, "mlp") for y in (gate, up))
        hidden = nn.gelu(gate, approximate=True) * up
        (y,) = multiply(
            "BTF,FD->BTD",
            hidden,
            name="linear",
            shape=(f, d),
            axes=("mlp", "embed"),
            init=_fan_in((0,), (1,)),
        )
        return y


class Block(nn.Module):
    """Pre-norm decoder layer; with `post_norms` it also normalizes what it adds to the residual."""

    config: GemmaConfig
    lora: Lora = Lora()
    attention: str = AUTO
    recomputed: bool = False  # whether the backward pass recomputes the whole layer

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        cache: LayerCache | None,
        positions: jax.Array,
        mask: jax.Array,
        start: jax.Array | None,
        deterministic: bool,
    ) -> tuple[jax.Array, LayerCache | None]:
        """Runs one layer with the arguments and results of `Attention`."""
        c = self.config
        x = constrain(x, "batch", None, None)
        drop = nn.Dropout(c.dropout)
        y = RMSNorm(c.norm_eps, name="pre_attention_norm")(x)
        y, cache = Attention(c, self.lora, self.attention, name="attn")(
            y, cache, positions, mask, start, deterministic
        )
        if c.post_norms:
            y = RMSNorm(c.norm_eps, name="post_attention_norm")(y)
        x = constrain(x + drop(y, deterministic), "batch", None, None)
        y = RMSNorm(c.norm_eps, name="pre_ffw_norm")(x)
        y = FeedForward(c.mlp_dim, self.lora, self.recomputed, name="mlp")(y, deterministic)
        if c.post_norms:
            y = RMSNorm(c.norm_eps, name="post_ffw_norm")(y)
        return constrain(x + drop(y, deterministic), "batch", None, None), cache


class Embedder(nn.Module):
    """Token embedding that the output layer shares."""

    vocab_size: int
    width: int
    dtype: jnp.dtype

    def setup(self):  # noqa: D102
        init = named_init(nn.initializers.normal(self.width**-0.5), "vocab", "embed")
        stored = self.get_variable("params", "input_embedding")
        if not isinstance(stored, Transposed):
            stored = self.param("input_embedding", init, (self.vocab_size, self.width))
        self.table: jax.Array | Transposed = stored

    def encode(self, tokens: Int32[jax.Array, "b t"]) -> Float[jax.Array, "b t d"]:
        """Embeds tokens int32 [B,T] as [B,T,D] in `dtype`, scaled by √D."""
        x = constrain_looked_up(take_rows(self.table, tokens)).astype(self.dtype)
        return x * jnp.asarray(self.width**0.5, self.dtype)

    def decode(self, x: Float[jax.Array, "*b d"]) -> Float32[jax.Array, "*b v"]:
        """Turns hidden states [...,D] into float32 logits [...,V], not yet capped."""
        return dot_rows(x, self.table)


class Gemma(nn.Module):
    """The decoder, which embeds tokens, runs its layers over embeddings, and makes logits."""

    config: GemmaConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "full"
    lora: Lora = Lora()
    attention: str = AUTO  # see pgjax.models.attention

    def setup(self):  # noqa: D102
        c = self.config
        self.embedder = Embedder(c.vocab_size, c.width, self.dtype)
        layers = scan_layers(Block, length=c.depth, policy=self.remat, num_broadcast=4)
        self.layers = layers(c, self.lora, self.attention, self.remat == "full")
        self.final_norm = RMSNorm(c.norm_eps)

    def embed(self, tokens: Int32[jax.Array, "b t"]) -> Float[jax.Array, "b t d"]:
        """Embeds tokens int32 [B,T] as [B,T,D] in the compute dtype, scaled by √D."""
        return self.embedder.encode(tokens)

    def __call__(
        self,
        x: Float[jax.Array, "b t d"],
        positions: Int32[jax.Array, "b t"],
        mask: Bool[jax.Array, "b t s"],
        cache: LayersCache | None = None,
        start: Int32[jax.Array, ""] | None = None,
        deterministic: bool = True,
    ) -> tuple[Float[jax.Array, "b t d"], LayersCache | None]:
        """Runs the layers and the final norm.

        Args:
          x: embeddings [B,T,D].
          positions: int32 [B,T].
          mask: bool [B,T,S], True where a query may attend; S is T, or the cache's length.
          cache: from `empty_cache` or an earlier call, or None.
          start: int32 scalar, the cache column that the first new token is written to; needed with
            a cache.
          deterministic: switches dropout off.

        Returns:
          (hidden states [B,T,D] after the final norm in the compute dtype, updated cache or None).
        """
        x, rest = x.astype(self.dtype), (positions, mask, start, deterministic)
        if (layers := unstacked_layers(self, "layers")) is None:
            x, cache = self.layers(x, cache, *rest)
            return self.final_norm(x), cache
        block, new = Block(self.config, self.lora, self.attention, parent=None), []
        old = (None,) * len(layers) if cache is None else cast(tuple[LayerCache, ...], cache)
        for params, layer_cache in zip(layers, old, strict=True):
            # Without the barrier the compiler widens the quantized or half-precision weights of all
            # layers beforehand, and keeps them widened from token to token.
            params, x = jax.lax.optimization_barrier((params, x))
            x, layer_cache = block.apply({"params": params}, x, layer_cache, *rest)
            new.append(layer_cache)
        return self.final_norm(x), None if cache is None else tuple(new)

    def empty_cache(self, rows: int, size: int, dtype: jnp.dtype) -> LayersCache:
        """Makes a cache of zeros in the form that `__call__` takes.

        Args:
          rows: B.
          size: S, columns of each row.
          dtype: of the keys and values.
        """
        c = self.config
        shape = (rows, size, c.num_kv_heads, c.head_dim)
        if unstacked_layers(self, "layers") is None:
            return {name: jnp.zeros((c.depth, *shape), dtype) for name in ("k", "v")}
        return tuple({name: jnp.zeros(shape, dtype) for name in ("k", "v")} for _ in range(c.depth))

    def logits(self, x: Float[jax.Array, "*b d"]) -> Float32[jax.Array, "*b v"]:
        """Turns hidden states [...,D] after the final norm into float32 logits [...,V]."""
        logits = constrain(self.embedder.decode(x), "batch", *[None] * (x.ndim - 2), "vocab")
        return soft_cap(logits, self.config.final_softcap)
