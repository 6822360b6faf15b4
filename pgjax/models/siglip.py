"""SigLIP image encoder: a ViT without class token or pooling (Zhai et al., arXiv:2303.15343).

Einsum letters: N images, h w patch grid, P patches, D width, H heads, K head size.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from pgjax.models.attention import attend
from pgjax.models.remat import scan_layers
from pgjax.models.variants import SiglipConfig

_xavier = nn.initializers.xavier_uniform()


def _param(init, *axes):
    return nn.with_logical_partitioning(init, axes)


class MlpBlock(nn.Module):
    """Two dense layers with tanh-GELU between; parameters Dense_0 and Dense_1."""

    mlp_dim: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """x [N,P,D] -> [N,P,D]."""
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        bias = nn.initializers.normal(1e-6)
        width = x.shape[-1]
        x = dense(
            self.mlp_dim,
            kernel_init=_param(_xavier, "embed", "mlp"),
            bias_init=_param(bias, "mlp"),
        )(x)
        x = nn.gelu(x, approximate=True)
        x = nn.Dropout(self.dropout)(x, deterministic)
        return dense(
            width,
            kernel_init=_param(_xavier, "mlp", "embed"),
            bias_init=_param(bias, "embed"),
        )(x)


class MultiHeadDotProductAttention(nn.Module):
    """Bidirectional self-attention; parameters query, key, value and out."""

    num_heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [N,P,D] -> [N,P,D]."""
        width = x.shape[-1]
        zeros = nn.initializers.zeros_init()
        project = functools.partial(
            nn.DenseGeneral,
            features=(self.num_heads, width // self.num_heads),
            dtype=self.dtype,
            kernel_init=_param(_xavier, "embed", "heads", "head_dim"),
            bias_init=_param(zeros, "heads", "head_dim"),
        )
        q, k, v = (project(name=name)(x) for name in ("query", "key", "value"))
        x = attend(q, k, v)
        return nn.DenseGeneral(
            width,
            axis=(-2, -1),
            dtype=self.dtype,
            kernel_init=_param(_xavier, "heads", "head_dim", "embed"),
            bias_init=_param(zeros, "embed"),
            name="out",
        )(x)


class EncoderBlock(nn.Module):
    """Pre-norm transformer layer."""

    config: SiglipConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, _: None, deterministic: bool) -> tuple[jax.Array, None]:
        """x [N,P,D] -> [N,P,D]; norms in float32, matrix products in `dtype`."""
        c = self.config
        x = nn.with_logical_constraint(x, ("batch", "seq", "act_embed"))
        drop = nn.Dropout(c.dropout)
        y = _norm("LayerNorm_0")(x.astype(jnp.float32))
        y = MultiHeadDotProductAttention(
            c.num_heads, self.dtype, name="MultiHeadDotProductAttention_0"
        )(y)
        x = x + drop(y, deterministic)
        y = _norm("LayerNorm_1")(x.astype(jnp.float32))
        y = MlpBlock(c.mlp_dim, c.dropout, self.dtype, name="MlpBlock_0")(y, deterministic)
        return x + drop(y, deterministic), None


class Encoder(nn.Module):
    """Scanned layers, then a norm."""

    config: SiglipConfig
    dtype: jnp.dtype
    remat: str

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """x [N,P,D] -> float32 [N,P,D]."""
        layers = scan_layers(
            EncoderBlock, length=self.config.depth, policy=self.remat, num_broadcast=1
        )
        x, _ = layers(self.config, self.dtype, name="encoderblock")(x, None, deterministic)
        return _norm("encoder_norm")(x.astype(jnp.float32))


class Siglip(nn.Module):
    """The image tower with its linear head into the decoder's width."""

    config: SiglipConfig
    out_dim: int
    num_patches: int
    dtype: jnp.dtype = jnp.float32
    remat: str = "full"

    @nn.compact
    def __call__(self, image: jax.Array, deterministic: bool = True) -> tuple[jax.Array, jax.Array]:
        """Encodes images.

        Args:
          image: float32 [N,H,W,3] in [-1,1]; (H/patch)·(W/patch) must be `num_patches`.
          deterministic: no dropout.

        Returns:
          (float32 [N,P,out_dim] tokens for the decoder, float32 [N,P,D] before the head).
        """
        c = self.config
        x = nn.Conv(
            c.width,
            c.patch_size,
            strides=c.patch_size,
            padding="VALID",
            dtype=self.dtype,
            kernel_init=_param(nn.initializers.lecun_normal(), None, None, None, "embed"),
            bias_init=_param(nn.initializers.zeros_init(), "embed"),
            name="embedding",
        )(image.astype(self.dtype))
        n, h, w, d = x.shape
        x = x.reshape(n, h * w, d)
        posemb = self.param(
            "pos_embedding",
            _param(nn.initializers.normal(c.width**-0.5), None, None, "embed"),
            (1, self.num_patches, c.width),
        )
        x = x + posemb.astype(x.dtype)
        encoded = Encoder(c, self.dtype, self.remat, name="Transformer")(x, deterministic)
        tokens = nn.Dense(
            self.out_dim,
            dtype=jnp.float32,
            kernel_init=_param(nn.initializers.lecun_normal(), "embed", "act_embed"),
            bias_init=_param(nn.initializers.zeros_init(), "act_embed"),
            name="head",
        )(encoded)
        return tokens, encoded


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(
        epsilon=1e-6,
        dtype=jnp.float32,
        scale_init=_param(nn.initializers.ones_init(), "embed"),
        bias_init=_param(nn.initializers.zeros_init(), "embed"),
        name=name,
    )
