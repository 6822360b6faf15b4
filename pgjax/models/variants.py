"""Sizes of the towers, by name or spelled out."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import ml_dtypes
import numpy as np

from pgjax.errors import UserError
from pgjax.registry import DECODER_VARIANTS, IMAGE_VARIANTS, Registry
from pgjax.schema import Rule, field

_FLOATS = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
_Pixels = Annotated[int, Rule(at_least=1)]


@dataclasses.dataclass(frozen=True)
class SiglipConfig:
    """Sizes of the image tower (a ViT)."""

    width: int = field(at_least=1, doc="Size of the hidden states.")
    depth: int = field(at_least=1, doc="Number of layers.")
    mlp_dim: int = field(at_least=1, doc="Size of the MLP's hidden layer.")
    num_heads: int = field(at_least=1, doc="Number of attention heads.")
    patch_size: tuple[_Pixels, _Pixels] = field(
        (14, 14), unit="pixels", doc="Height and width of a patch."
    )
    dropout: float = field(0.0, at_least=0, below=1, doc="Dropout.")


@dataclasses.dataclass(frozen=True)
class GemmaConfig:
    """Sizes of the decoder."""

    width: int = field(at_least=1, doc="Size of the hidden states.")
    depth: int = field(at_least=1, doc="Number of layers.")
    mlp_dim: int = field(at_least=1, doc="Size of the MLP's hidden layer.")
    num_heads: int = field(at_least=1, doc="Number of query heads.")
    num_kv_heads: int = field(at_least=1, doc="Number of key/value heads.")
    head_dim: int = field(at_least=2, doc="Size of a head.")
    vocab_size: int = field(at_least=1, doc="Number of tokens.")
    norm_eps: float = field(1e-6, above=0, doc="Added to the mean square in RMSNorm.")
    dropout: float = field(0.0, at_least=0, below=1, doc="Dropout.")
    # What Gemma 2 adds.
    post_norms: bool = field(False, doc="Whether attention and MLP are followed by norms too.")
    attn_softcap: float = field(
        0.0, at_least=0, doc="c of c·tanh(x/c) on the logits of attention; 0 for none."
    )
    final_softcap: float = field(
        0.0, at_least=0, doc="c of c·tanh(x/c) on the logits of the vocabulary; 0 for none."
    )
    query_scale: float | None = field(
        None, above=0, doc="Scale of the queries; None for head_dim^-½."
    )


def _gemma2(
    *sizes: int, vocab_size: int = 257_152, query_scale: float | None = None
) -> GemmaConfig:
    """The decoder of PaliGemma 2 (arXiv:2412.03555): full attention in every layer."""
    return GemmaConfig(
        *sizes,
        vocab_size=vocab_size,
        post_norms=True,
        attn_softcap=50.0,
        final_softcap=30.0,
        query_scale=query_scale,
    )


IMAGE_VARIANTS.register("So400m/14")(SiglipConfig(1152, 27, 4304, 16))
IMAGE_VARIANTS.register("mid/14")(SiglipConfig(384, 6, 1536, 6))
IMAGE_VARIANTS.register("tiny/8")(SiglipConfig(96, 3, 256, 4, patch_size=(8, 8)))

for _name, _config in {
    "gemma_2b": GemmaConfig(2048, 18, 16384, 8, 1, 256, vocab_size=257_152),
    "gemma2_2b": _gemma2(2304, 26, 9216, 8, 4, 256),
    "gemma2_9b": _gemma2(3584, 42, 14336, 16, 8, 256),
    "gemma2_27b": _gemma2(4608, 46, 36864, 32, 16, 128, query_scale=(4608 / 32) ** -0.5),
    "gemma_mid": GemmaConfig(512, 6, 2048, 8, 1, 64, vocab_size=257_152),
    "gemma_tiny": GemmaConfig(96, 3, 256, 4, 1, 24, vocab_size=1664),
    "gemma2_tiny": _gemma2(96, 3, 256, 4, 2, 24, vocab_size=1664),
}.items():
    DECODER_VARIANTS.register(_name)(_config)


def siglip_config(spec: Mapping[str, Any]) -> SiglipConfig:
    """Builds the image tower's sizes from `dict(variant="So400m/14", dropout=…)` or explicit sizes.

    Raises:
      UserError: a variant or key is unknown, a size is missing, or the heads do not divide the
        width.
    """
    config = _build(SiglipConfig, IMAGE_VARIANTS, spec, "model.img")
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
    config = _build(GemmaConfig, DECODER_VARIANTS, spec, "model.llm")
    if config.num_heads % config.num_kv_heads or config.head_dim % 2:
        raise UserError(
            f"model.llm: num_heads {config.num_heads} must be a multiple of num_kv_heads "
            f"{config.num_kv_heads}, and head_dim {config.head_dim} even."
        )
    return config


def float_dtype(name: str, where: str) -> np.dtype:
    """Returns the dtype of parameters or computation that a config names.

    Args:
      name: float32, bfloat16 or float16.
      where: the config key that the name comes from, for the message.

    Raises:
      UserError: the name is another one.
    """
    if not isinstance(name, str) or name not in _FLOATS:
        raise UserError(f"{where} is {name!r}; expected one of {', '.join(_FLOATS)}.")
    return np.dtype(_FLOATS[name])


def _build(cls: type, variants: Registry[Any], spec: Mapping[str, Any], where: str) -> Any:
    sizes = {k: v for k, v in spec.items() if k != "variant" and v is not None}
    known = [f.name for f in dataclasses.fields(cls)]
    if unknown := sizes.keys() - set(known):
        raise UserError(f"{where}: unknown key {sorted(unknown)}; it takes variant, {known}.")
    if name := spec.get("variant"):
        return dataclasses.replace(variants.find(name, f"{where}.variant"), **sizes)
    required = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]
    if missing := [k for k in required if k not in sizes]:
        raise UserError(f"{where}: without a variant, {missing} must be given too.")
    return cls(**sizes)
