"""Gemma decoders (arXiv:2403.08295, arXiv:2408.00118), with an explicit key/value cache.

Einsum letters: B rows, T new tokens, S attended tokens, D width, N query heads, K key/value
heads, H head size, F hidden size of the MLP, V vocabulary, C = 2 (key and value; gate and up).
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from pgjax.models.attention import AUTO, attend, soft_cap
from pgjax.models.embedding import Transposed, dot_rows, take_rows
from pgjax.models.layers import scan_layers, unstacked_layers
from pgjax.models.lora import Lora, product
from pgjax.models.variants import GemmaConfig
from pgjax.sharding import constrain, constrain_looked_up, data_size

# Bytes of an MLP's hidden units, of which a backward pass holds about six, up to which they exist
# for all tokens at once.
_MOST_HIDDEN = 2**29

LayerCache = dict[str, jax.Array]  # "k", "v": [B,S,K,H]
# Of all layers: one dict of [L,B,S,K,H] where they are scanned, or a tuple of L dicts.
LayersCache = LayerCache | tuple[LayerCache, ...]


def _param(init, *axes):
    return nn.with_logical_partitioning(init, axes)


def _fan_in(in_axis, out_axis, batch_axis=()):
    return nn.initializers.variance_scaling(
        1.0, "fan_in", "normal", in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis
    )


class Einsum(nn.Module):
    """One weight `w` and the einsum that uses it."""

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    in_axis: tuple[int, ...]
    out_axis: tuple[int, ...]
    lora: Lora = Lora()

    @nn.compact
    def __call__(self, eqn: str, x: jax.Array, deterministic: bool) -> jax.Array:
        """Applies `eqn` to x and w; w is cast to x's dtype, which is the compute dtype."""
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
    """Root-mean-square norm with scale stored as an offset from 1 (arXiv:1910.07467)."""

    eps: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [...,D] -> [...,D], computed in float32, returned in x's dtype."""
        init = _param(nn.initializers.zeros_init(), "embed")
        scale = self.param("scale", init, (x.shape[-1],)).astype(jnp.float32)
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.eps)
        return (y * (1.0 + jnp.expand_dims(scale, range(y.ndim - 1)))).astype(x.dtype)


def rope(x: jax.Array, positions: jax.Array, base: float = 10_000.0) -> jax.Array:
    """Rotary position embedding, halves rotated (arXiv:2104.09864).

    Args:
      x: [B,T,N,H].
      positions: int32 [B,T].
      base: longest wavelength over 2π.

    Returns:
      [B,T,N,H] in x's dtype; angles are computed in float32.
    """
    half = x.shape[-1] // 2
    wavelength = base ** (jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[:, :, None, None].astype(jnp.float32) / wavelength[None, None, None, :]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    x1, x2 = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1).astype(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention; parameters q_einsum, kv_einsum and attn_vec_einsum."""

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
        """x [B,T,D], mask bool [B,T,S] -> ([B,T,D], cache with T new columns from `start`)."""
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
        q = rope(constrain(q_einsum("BTD,NDH->BTNH", x, deterministic), *split), positions)
        key, value = (
            constrain(y, *split_kv) for y in kv_einsum("BTD,CKDH->CBTKH", x, deterministic)
        )
        key = rope(key, positions)
        if cache is not None:
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
        y = constrain(y, *split)
        return out_einsum("BTNH,NHD->BTD", y, deterministic), cache


class FeedForward(nn.Module):
    """Gated tanh-GELU MLP; parameters gating_einsum [C,D,F] and linear [F,D]."""

    mlp_dim: int
    lora: Lora = Lora()
    in_parts: bool = False  # whether large hidden layers may be recomputed, a part after the other

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        """x [B,T,D] -> [B,T,D]; a part of T after the other where hidden units take much memory."""
        b, t, d = x.shape
        hidden_bytes = b * t * self.mlp_dim * x.dtype.itemsize
        # On several devices each part would gather the matrices again.
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
        return multiply(
            "BTF,FD->BTD",
            hidden,
            name="linear",
            shape=(f, d),
            axes=("mlp", "embed"),
            init=_fan_in((0,), (1,)),
        )


class Block(nn.Module):
    """Pre-norm decoder layer; with post-norms, what it adds is normed as well."""

    config: GemmaConfig
    lora: Lora = Lora()
    attention: str = AUTO
    recomputed: bool = False  # whether a backward pass makes all of a layer anew

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
        """x [B,T,D] -> ([B,T,D], cache)."""
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
    """Token embedding, tied with the output layer."""

    vocab_size: int
    width: int
    dtype: jnp.dtype

    def setup(self):  # noqa: D102
        init = _param(nn.initializers.normal(self.width**-0.5), "vocab", "embed")
        kept = self.get_variable("params", "input_embedding")
        if not isinstance(kept, Transposed):
            kept = self.param("input_embedding", init, (self.vocab_size, self.width))
        self.table = kept

    def encode(self, tokens: jax.Array) -> jax.Array:
        """int32 [B,T] -> [B,T,D], scaled by √D."""
        x = constrain_looked_up(take_rows(self.table, tokens)).astype(self.dtype)
        return x * jnp.asarray(self.width**0.5, self.dtype)

    def decode(self, x: jax.Array) -> jax.Array:
        """[...,D] -> float32 logits [...,V]."""
        return dot_rows(x, self.table)


class Gemma(nn.Module):
    """The decoder: embeds tokens, runs the layers over given embeddings, makes logits."""

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

    def embed(self, tokens: jax.Array) -> jax.Array:
        """int32 [B,T] -> [B,T,D]."""
        return self.embedder.encode(tokens)

    def __call__(
        self,
        x: jax.Array,
        positions: jax.Array,
        mask: jax.Array,
        cache: LayersCache | None = None,
        start: jax.Array | None = None,
        deterministic: bool = True,
    ) -> tuple[jax.Array, LayersCache | None]:
        """Runs the layers.

        Args:
          x: [B,T,D] embeddings.
          positions: int32 [B,T].
          mask: bool [B,T,S], True where a query may attend; S is T, or the cache's length.
          cache: from `empty_cache` or an earlier call, or None.
          start: int32 scalar, the cache column that the first new token is written to.
          deterministic: no dropout.

        Returns:
          (final-normed [B,T,D] in the compute dtype, updated cache or None).
        """
        x, rest = x.astype(self.dtype), (positions, mask, start, deterministic)
        if (layers := unstacked_layers(self, "layers")) is None:
            x, cache = self.layers(x, cache, *rest)
            return self.final_norm(x), cache
        block, caches = Block(self.config, self.lora, self.attention, parent=None), []
        for i, params in enumerate(layers):
            # Else the compiler widens all layers' quantized or half-precision weights beforehand,
            # and keeps them so from token to token.
            params, x = jax.lax.optimization_barrier((params, x))
            x, new = block.apply({"params": params}, x, cache and cache[i], *rest)
            caches.append(new)
        return self.final_norm(x), cache and tuple(caches)

    def empty_cache(self, rows: int, size: int, dtype: jnp.dtype) -> LayersCache:
        """Zeros for `rows` of `size` columns, in the form that `__call__` takes."""
        c = self.config
        shape = (rows, size, c.num_kv_heads, c.head_dim)
        if unstacked_layers(self, "layers") is None:
            return {name: jnp.zeros((c.depth, *shape), dtype) for name in ("k", "v")}
        return tuple({name: jnp.zeros(shape, dtype) for name in ("k", "v")} for _ in range(c.depth))

    def logits(self, x: jax.Array) -> jax.Array:
        """Final-normed [...,D] -> float32 [...,V]."""
        logits = constrain(self.embedder.decode(x), "batch", *[None] * (x.ndim - 2), "vocab")
        return soft_cap(logits, self.config.final_softcap)
