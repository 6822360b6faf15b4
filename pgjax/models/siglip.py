"""SigLIP image encoder: a ViT without class token or pooling (Zhai et al., arXiv:2303.15343).

Einsum letters: N images, h w patch grid, P patches, D width, H heads, K head size.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float32

from pgjax.models.attention import AUTO, attend
from pgjax.models.layers import named_init, scan_layers
from pgjax.models.lora import Lora, product
from pgjax.models.variants import SiglipConfig
from pgjax.sharding import constrain

_xavier = nn.initializers.xavier_uniform()


class Dense(nn.Module):
    """Product with `kernel` [*in,*features], which may be stored quantized, plus `bias`.

    `axes` names every axis of the kernel, `features` gives the size of the last ones; the product
    sums over the others, which are the trailing axes of x.
    """

    features: tuple[int, ...]
    axes: tuple[str, ...]
    dtype: jnp.dtype
    lora: Lora
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Maps x [...,*in] to [...,*features] in `dtype`."""
        summed = len(self.axes) - len(self.features)
        fan_in = x.shape[-summed:]
        into, out = "abc"[:summed], "xyz"[: len(self.features)]
        (y,) = product(
            self,
            f"...{into},{into}{out}->...{out}",
            x.astype(self.dtype),
            name="kernel",
            shape=(*fan_in, *self.features),
            axes=self.axes,
            init=_xavier_of(math.prod(fan_in)),
            lora=self.lora,
            deterministic=deterministic,
        )
        bias = self.param("bias", named_init(self.bias_init, *self.axes[summed:]), self.features)
        return y + jnp.expand_dims(bias.astype(self.dtype), range(x.ndim - summed))


def _xavier_of(fan_in: int) -> nn.initializers.Initializer:
    """Draws a kernel by Xavier's bounds (Glorot and Bengio, 2010) as one [in, out] matrix."""

    def init(key, shape, dtype=jnp.float32):
        return _xavier(key, (fan_in, math.prod(shape) // fan_in), dtype).reshape(shape)

    return init


class MlpBlock(nn.Module):
    """Two dense layers, Dense_0 and Dense_1, with a tanh-GELU between them."""

    mlp_dim: int
    dropout: float
    dtype: jnp.dtype
    lora: Lora

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Maps x [N,P,D] to [N,P,D] in `dtype`."""
        bias_init = nn.initializers.normal(1e-6)
        dense = functools.partial(Dense, dtype=self.dtype, lora=self.lora, bias_init=bias_init)
        width = x.shape[-1]
        x = dense((self.mlp_dim,), ("embed", "mlp"))(x, deterministic)
        x = nn.gelu(constrain(x, "batch", None, "mlp"), approximate=True)
        x = nn.Dropout(self.dropout)(x, deterministic)
        return dense((width,), ("mlp", "embed"))(x, deterministic)


class MultiHeadDotProductAttention(nn.Module):
    """Bidirectional self-attention with the parameters query, key, value and out."""

    num_heads: int
    dtype: jnp.dtype
    lora: Lora
    attention: str = AUTO

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Maps x [N,P,D] to [N,P,D] in `dtype`."""
        dense = functools.partial(Dense, dtype=self.dtype, lora=self.lora)
        width = x.shape[-1]
        heads = (self.num_heads, width // self.num_heads)
        axes = ("embed", "heads", "head_dim")
        q, k, v = (
            constrain(dense(heads, axes, name=n)(x, deterministic), "batch", None, "heads", None)
            for n in ("query", "key", "value")
        )
        x = attend(q, k, v, implementation=self.attention)
        return dense((width,), ("heads", "head_dim", "embed"), name="out")(x, deterministic)


class LayerNorm(nn.Module):
    """Layer norm (arXiv:1607.06450), computed in float32 whatever dtype its parameters have."""

    eps: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes x [N,P,D] over D, and returns float32 [N,P,D]."""
        x = x.astype(jnp.float32)
        scale = self.param("scale", named_init(nn.initializers.ones_init(), "embed"), x.shape[-1:])
        bias = self.param("bias", named_init(nn.initializers.zeros_init(), "embed"), x.shape[-1:])
        scale, bias = (y.astype(jnp.float32)[None, None] for y in (scale, bias))
        x = x - x.mean(-1, keepdims=True)
        return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + self.eps) * scale + bias


class EncoderBlock(nn.Module):
    """Pre-norm layer of the image tower."""

    config: SiglipConfig
    dtype: jnp.dtype
    lora: Lora
    attention: str = AUTO

    @nn.compact
    def __call__(self, x: jax.Array, _: None, deterministic: bool) -> tuple[jax.Array, None]:
        """Maps x [N,P,D] to ([N,P,D], None), with norms in float32 and products in `dtype`."""
        c = self.config
        x = constrain(x, "batch", None, None)
        drop = nn.Dropout(c.dropout)
        y = LayerNorm(name="LayerNorm_0")(x)
        y = MultiHeadDotProductAttention(
            c.num_heads,
            self.dtype,
            self.lora,
            self.attention,
            name="MultiHeadDotProductAttention_0",
        )(y, deterministic)
        x = constrain(x + drop(y, deterministic), "batch", None, None)
        y = LayerNorm(name="LayerNorm_1")(x)
        mlp = MlpBlock(c.mlp_dim, c.dropout, self.dtype, self.lora, name="MlpBlock_0")
        y = mlp(y, deterministic)
        return constrain(x + drop(y, deterministic), "batch", None, None), None


class Encoder(nn.Module):
    """The scanned layers of the image tower, and the norm after them."""

    config: SiglipConfig
    dtype: jnp.dtype
    remat: str
    lora: Lora
    attention: str = AUTO

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Maps embedded patches x [N,P,D] to float32 [N,P,D]."""
        layers = scan_layers(
            EncoderBlock, length=self.config.depth, policy=self.remat, num_broadcast=1
        )
        block = layers(self.config, self.dtype, self.lora, self.attention, name="encoderblock")
        x, _ = block(x, None, deterministic)
        return LayerNorm(name="encoder_norm")(x)


class Siglip(nn.Module):
    """The image tower, with its linear head into the decoder's width."""

    config: SiglipConfig
    out_dim: int
    num_patches: int
    dtype: jnp.dtype = jnp.float32
    remat: str = "full"
    lora: Lora = Lora()
    attention: str = AUTO  # see pgjax.models.attention

    @nn.compact
    def __call__(
        self, image: Float32[jax.Array, "n h w 3"], deterministic: bool = True
    ) -> tuple[Float32[jax.Array, "n p out"], Float32[jax.Array, "n p d"]]:
        """Encodes images.

        Args:
          image: float32 [N,H,W,3] in [-1,1]; (H/patch)·(W/patch) must be `num_patches`.
          deterministic: switches dropout off.

        Returns:
          (tokens for the decoder, float32 [N,P,out_dim]; features before the head, float32
          [N,P,D]).
        """
        c = self.config
        x = nn.Conv(
            c.width,
            c.patch_size,
            strides=c.patch_size,
            padding="VALID",
            dtype=self.dtype,
            kernel_init=named_init(nn.initializers.lecun_normal(), None, None, None, "embed"),
            bias_init=named_init(nn.initializers.zeros_init(), "embed"),
            name="embedding",
        )(image.astype(self.dtype))
        n, h, w, d = x.shape
        x = constrain(x.reshape(n, h * w, d), "batch", None, None)
        posemb = self.param(
            "pos_embedding",
            named_init(nn.initializers.normal(c.width**-0.5), None, None, "embed"),
            (1, self.num_patches, c.width),
        )
        x = x + posemb.astype(x.dtype)
        encoder = Encoder(c, self.dtype, self.remat, self.lora, self.attention, name="Transformer")
        encoded = encoder(x, deterministic)
        tokens = nn.Dense(
            self.out_dim,
            dtype=jnp.float32,
            kernel_init=named_init(nn.initializers.lecun_normal(), "embed", "act_embed"),
            bias_init=named_init(nn.initializers.zeros_init(), "act_embed"),
            name="head",
        )(encoded)
        return constrain(tokens, "batch", None, None), encoded
