"""Reads the `config.json` of a Hugging Face folder.

transformers writes the keys that differ from the defaults of its configuration classes, and which
those are depends on its version; the defaults themselves are the same from 4.41 to 5.23. A key that
would change what the model computes in a way that pgjax lacks is refused.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from pgjax.checkpoints.json_file import JsonObject

_MOST_LAYERS = 1000  # more than any model has
_IMAGE_TOKEN = 256_000  # PaliGemmaConfig's default, which transformers leaves out of the file
_SLIDING_WINDOW = 4096  # of Gemma 2; pgjax has full attention in every layer, as the released code
_ROPE_BASE = 10_000.0
_LAYER_NORM_EPS = 1e-6
_GELU = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast")  # three names of one function


@dataclasses.dataclass(frozen=True)
class _TextSizes:
    """Sizes of a decoder that a section of config.json leaves out."""

    width: int
    mlp_dim: int
    depth: int
    num_heads: int
    num_kv_heads: int


@dataclasses.dataclass(frozen=True)
class _VisionSizes:
    """Sizes of an image tower that a section of config.json leaves out."""

    width: int
    mlp_dim: int
    depth: int
    num_heads: int
    patch: int


# Those of PaliGemmaConfig, where the whole section is left out, then those of the nested classes.
_PALIGEMMA_TEXT = _TextSizes(2048, 16384, 18, 8, 1)
_TEXT = {
    "gemma": _TextSizes(3072, 24576, 28, 16, 16),
    "gemma2": _TextSizes(2304, 9216, 26, 8, 4),
}
_PALIGEMMA_VISION = _VisionSizes(1152, 4096, 27, 16, 14)
_VISION = _VisionSizes(768, 3072, 12, 12, 16)


def spec_from_config(config: JsonObject) -> dict[str, Any]:
    """Returns the model spec of a `config.json`; keys that it lacks have transformers' defaults.

    Raises:
      UserError: a key says that the model is of a kind that pgjax lacks, or its value is not of
        the expected type or range.
    """
    if config.text("model_type", "") != "paligemma":
        raise config.error("model_type", "'paligemma'")
    if config.values.get("quantization_config"):
        raise config.error(
            "quantization_config",
            "a model that is not quantized; dequantize it in transformers before saving it, and "
            "let pgjax quantize it as it is loaded",
        )
    vision = config.section("vision_config", optional=True)
    sizes = _VISION if config.values.get("vision_config") is not None else _PALIGEMMA_VISION
    if vision.flag("vision_use_head", False):
        raise vision.error("vision_use_head", "false")
    _only(vision, "model_type", ("siglip_vision_model",))
    _only(vision, "hidden_act", _GELU)
    _only_number(vision, "layer_norm_eps", _LAYER_NORM_EPS)
    patch = vision.integer("patch_size", sizes.patch)
    return {
        "res": vision.integer("image_size", 224),
        "img": {
            "width": vision.integer("hidden_size", sizes.width),
            "depth": vision.integer("num_hidden_layers", sizes.depth, high=_MOST_LAYERS),
            "mlp_dim": vision.integer("intermediate_size", sizes.mlp_dim),
            "num_heads": vision.integer("num_attention_heads", sizes.num_heads),
            "patch_size": (patch, patch),
        },
        "llm": _decoder_spec(config),
    }


def _decoder_spec(config: JsonObject) -> dict[str, Any]:
    text = config.section("text_config", optional=True)
    kind = text.text("model_type", "gemma")
    if kind not in _TEXT:
        raise text.error("model_type", "'gemma' or 'gemma2'")
    sizes = _TEXT[kind] if config.values.get("text_config") is not None else _PALIGEMMA_TEXT
    for key in ("hidden_act", "hidden_activation"):
        _only(text, key, _GELU)
    if text.flag("attention_bias", False):
        raise text.error("attention_bias", "false")
    if not text.flag("use_bidirectional_attention", True):
        raise text.error("use_bidirectional_attention", "true, attention to all of the prefix")
    _check_positions(text)
    if kind == "gemma2":
        _check_window(text)
    spec = {
        "width": text.integer("hidden_size", sizes.width),
        "depth": text.integer("num_hidden_layers", sizes.depth, high=_MOST_LAYERS),
        "mlp_dim": text.integer("intermediate_size", sizes.mlp_dim),
        "num_heads": text.integer("num_attention_heads", sizes.num_heads),
        "num_kv_heads": text.integer("num_key_value_heads", sizes.num_kv_heads),
        "head_dim": text.integer("head_dim", 256),
        "vocab_size": image_token(config),
        "norm_eps": text.number("rms_norm_eps", 1e-6),
    }
    if kind == "gemma2":
        spec |= {
            "post_norms": True,
            "attn_softcap": _softcap(text, "attn_logit_softcapping", 50.0),
            "final_softcap": _softcap(text, "final_logit_softcapping", 30.0),
            "query_scale": text.number("query_pre_attn_scalar", 256, low=1) ** -0.5,
        }
    return spec


def image_token(config: JsonObject) -> int:
    """Returns the id of `<image>`, before which the ids of the model's own vocabulary lie."""
    key = "image_token_id" if "image_token_id" in config.values else "image_token_index"
    return config.integer(key, _IMAGE_TOKEN)


def _check_positions(text: JsonObject) -> None:
    """Checks the rotary embedding, which transformers 5 describes in a section of its own."""
    _only_number(text, "rope_theta", _ROPE_BASE)
    for key in ("rope_parameters", "rope_scaling"):
        rope = text.section(key, optional=True)
        for kind in ("rope_type", "type"):
            _only(rope, kind, ("default",))
        _only_number(rope, "rope_theta", _ROPE_BASE)
        _only_number(rope, "factor", 1.0)
        _only_number(rope, "partial_rotary_factor", 1.0)


def _check_window(text: JsonObject) -> None:
    """Checks that no layer of Gemma 2 has a window shorter than the released models'."""
    layers = text.values.get("layer_types")
    if isinstance(layers, list) and "sliding_attention" not in layers:
        return
    if text.integer("sliding_window", _SLIDING_WINDOW) < _SLIDING_WINDOW:
        raise text.error(
            "sliding_window", f"at least {_SLIDING_WINDOW}, because pgjax has full attention"
        )


def _only(section: JsonObject, key: str, values: Sequence[str]) -> None:
    """Checks that a key, where it is given, has one of some values."""
    if section.text(key, values[0]) not in values:
        raise section.error(key, " or ".join(map(repr, values)))


def _only_number(section: JsonObject, key: str, value: float) -> None:
    """Checks that a key, where it is given, has the value that pgjax computes with."""
    if section.number(key, value) != value:
        raise section.error(key, f"{value:g}, the only value that pgjax computes with")


def _softcap(text: JsonObject, key: str, default: float) -> float:
    """Returns a cap of logits; null means that there is none, which is 0 in pgjax."""
    return 0.0 if text.values.get(key, default) is None else text.number(key, default)
