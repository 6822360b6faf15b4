"""Sizes of the towers, by name or spelled out."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from pgjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class SiglipConfig:
    """Sizes of the image tower (a ViT)."""

    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    patch_size: tuple[int, int] = (14, 14)
    dropout: float = 0.0


@dataclasses.dataclass(frozen=True)
class GemmaConfig:
    """Sizes of the decoder."""

    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    norm_eps: float = 1e-6
    dropout: float = 0.0
    # Gemma 2 adds norms after attention and MLP, logits bounded to c·tanh(x/c) where c > 0, and a
    # scale of the queries other than head_dim^-½, which None stands for.
    post_norms: bool = False
    attn_softcap: float = 0.0
    final_softcap: float = 0.0
    query_scale: float | None = None


def _gemma2(*sizes: int, query_scale: float | None = None) -> GemmaConfig:
    """The decoder of PaliGemma 2 (arXiv:2412.03555): full attention in every layer."""
    return GemmaConfig(
        *sizes,
        vocab_size=257_152,
        post_norms=True,
        attn_softcap=50.0,
        final_softcap=30.0,
        query_scale=query_scale,
    )


SIGLIP = {
    "So400m/14": SiglipConfig(1152, 27, 4304, 16),
    "mid/14": SiglipConfig(384, 6, 1536, 6),
    "tiny/8": SiglipConfig(96, 3, 256, 4, patch_size=(8, 8)),
}
GEMMA = {
    "gemma_2b": GemmaConfig(2048, 18, 16384, 8, 1, 256, vocab_size=257_152),
    "gemma2_2b": _gemma2(2304, 26, 9216, 8, 4, 256),
    "gemma2_9b": _gemma2(3584, 42, 14336, 16, 8, 256),
    "gemma2_27b": _gemma2(4608, 46, 36864, 32, 16, 128, query_scale=(4608 / 32) ** -0.5),
    "gemma_mid": GemmaConfig(512, 6, 2048, 8, 1, 64, vocab_size=257_152),
    "gemma_tiny": GemmaConfig(96, 3, 256, 4, 1, 24, vocab_size=1664),
}


def siglip_config(spec: Mapping[str, Any]) -> SiglipConfig:
    """Builds the image tower's sizes from `dict(variant="So400m/14", dropout=…)` or explicit sizes.

    Raises:
      UserError: a variant or key is unknown, a size is missing, or the heads do not divide the
        width.
    """
    config = _build(SiglipConfig, SIGLIP, spec, "model.img")
    if config.width % config.num_heads:
        raise UserError(
            f"model.img: width {config.width} is not a multiple of num_heads {config.num_heads}."
        )
    return dataclasses.replace(config, patch_size=tuple(config.patch_size))


def gemma_config(spec: Mapping[str, Any]) -> GemmaConfig:
    """Builds the decoder's sizes from `dict(variant="gemma_2b", …)` or explicit sizes.

    Raises:
      UserError: a variant or key is unknown, a size is missing, the key/value heads do not divide
        the query heads, or the head size is odd.
    """
    config = _build(GemmaConfig, GEMMA, spec, "model.llm")
    if config.num_heads % config.num_kv_heads or config.head_dim % 2:
        raise UserError(
            f"model.llm: num_heads {config.num_heads} must be a multiple of num_kv_heads "
            f"{config.num_kv_heads}, and head_dim {config.head_dim} even."
        )
    return config


def float_dtype(name: str, where: str) -> jnp.dtype:
    """Returns the dtype of parameters or computation that a config names.

    Args:
      name: float32, bfloat16 or float16.
      where: the config key that the name comes from, for the message.

    Raises:
      UserError: the name is another one.
    """
    allowed = ("float32", "bfloat16", "float16")
    if name not in allowed:
        raise UserError(f"{where} {name!r} is unknown; choose from {allowed}.")
    return jnp.dtype(name)


def _build(cls: type, variants: Mapping[str, Any], spec: Mapping[str, Any], where: str) -> Any:
    sizes = {k: v for k, v in spec.items() if k != "variant" and v is not None}
    known = [f.name for f in dataclasses.fields(cls)]
    if unknown := sizes.keys() - set(known):
        raise UserError(f"{where}: unknown key {sorted(unknown)}; it takes variant, {known}.")
    if name := spec.get("variant"):
        if name not in variants:
            raise UserError(f"{where}.variant {name!r} is unknown; choose from {list(variants)}.")
        return dataclasses.replace(variants[name], **sizes)
    required = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]
    if missing := [k for k in required if k not in sizes]:
        raise UserError(f"{where}: without a variant, {missing} must be given too.")
    return cls(**sizes)
