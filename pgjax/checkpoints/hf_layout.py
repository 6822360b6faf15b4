"""The names and axes that Hugging Face gives to PaliGemma's parameters.

A rule gives the name of a parameter in Hugging Face's files, and how its axes correspond:
`DNH->NH,D` turns pgjax's axes D, N, H into a matrix with a row for each pair of N and H and a
column for each D. Read from right to left, a rule is the way back.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Each rule is (pgjax's name, Hugging Face's name, axes). The rules of a layer hold for every layer.
# Several rules for one name are the parts along its first axis.
_IMG = (
    ("embedding/kernel", "embeddings.patch_embedding.weight", "hwcD->D,c,h,w"),
    ("embedding/bias", "embeddings.patch_embedding.bias", "D->D"),
    ("pos_embedding", "embeddings.position_embedding.weight", "oPD->oP,D"),
    ("Transformer/encoder_norm/scale", "post_layernorm.weight", "D->D"),
    ("Transformer/encoder_norm/bias", "post_layernorm.bias", "D->D"),
)
_IMG_LAYER = (
    ("LayerNorm_0/scale", "layer_norm1.weight", "D->D"),
    ("LayerNorm_0/bias", "layer_norm1.bias", "D->D"),
    ("LayerNorm_1/scale", "layer_norm2.weight", "D->D"),
    ("LayerNorm_1/bias", "layer_norm2.bias", "D->D"),
    ("MlpBlock_0/Dense_0/kernel", "mlp.fc1.weight", "DF->F,D"),
    ("MlpBlock_0/Dense_0/bias", "mlp.fc1.bias", "F->F"),
    ("MlpBlock_0/Dense_1/kernel", "mlp.fc2.weight", "FD->D,F"),
    ("MlpBlock_0/Dense_1/bias", "mlp.fc2.bias", "D->D"),
    *(
        rule
        for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))
        for rule in (
            (f"MultiHeadDotProductAttention_0/{ours}/kernel", f"self_attn.{theirs}.weight",
             "DNH->NH,D"),
            (f"MultiHeadDotProductAttention_0/{ours}/bias", f"self_attn.{theirs}.bias", "NH->NH"),
        )
    ),
    ("MultiHeadDotProductAttention_0/out/kernel", "self_attn.out_proj.weight", "NHD->D,NH"),
    ("MultiHeadDotProductAttention_0/out/bias", "self_attn.out_proj.bias", "D->D"),
)  # fmt: skip
_HEAD = (
    ("kernel", "linear.weight", "DW->W,D"),
    ("bias", "linear.bias", "W->W"),
)
_LLM = (
    ("embedder/input_embedding", "embed_tokens.weight", "VD->V,D"),
    ("final_norm/scale", "norm.weight", "D->D"),
)
_LLM_LAYER = (
    ("attn/q_einsum/w", "self_attn.q_proj.weight", "NDH->NH,D"),
    ("attn/kv_einsum/w", "self_attn.k_proj.weight", "KDH->KH,D"),
    ("attn/kv_einsum/w", "self_attn.v_proj.weight", "KDH->KH,D"),
    ("attn/attn_vec_einsum/w", "self_attn.o_proj.weight", "NHD->D,NH"),
    ("mlp/gating_einsum", "mlp.gate_proj.weight", "DF->F,D"),
    ("mlp/gating_einsum", "mlp.up_proj.weight", "DF->F,D"),
    ("mlp/linear", "mlp.down_proj.weight", "FD->D,F"),
    ("pre_attention_norm/scale", "input_layernorm.weight", "D->D"),
)
_GEMMA_NORMS = (("pre_ffw_norm/scale", "post_attention_layernorm.weight", "D->D"),)
_GEMMA2_NORMS = (
    ("post_attention_norm/scale", "post_attention_layernorm.weight", "D->D"),
    ("pre_ffw_norm/scale", "pre_feedforward_layernorm.weight", "D->D"),
    ("post_ffw_norm/scale", "post_feedforward_layernorm.weight", "D->D"),
)
_TOWER, _PROJECTOR, _DECODER = (
    "vision_tower.vision_model.",
    "multi_modal_projector.",
    "language_model.model.",
)
EMBEDDING = f"{_DECODER}embed_tokens.weight"
OUTPUT_LAYERS = ("lm_head.weight", "language_model.lm_head.weight")
PADDING = 64  # the number of rows that the released files append to the embedding

_Rule = tuple[str, str, str]


@dataclasses.dataclass(frozen=True)
class Part:
    """A tensor of Hugging Face, which is a parameter of pgjax or a part of one.

    Attributes:
      hf_name: the name of the tensor in Hugging Face's released files.
      axes: the axes in pgjax and at Hugging Face, such as `DNH->NH,D`.
      sizes: the size of each axis by its letter.
    """

    hf_name: str
    axes: str
    sizes: Mapping[str, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in pgjax."""
        return tuple(self.sizes[a] for a in self._axes)

    @property
    def hf_shape(self) -> tuple[int, ...]:
        """The shape at Hugging Face."""
        return tuple(math.prod(self.sizes[a] for a in group) for group in self._hf_axes)

    def from_hf(self, x: np.ndarray) -> np.ndarray:
        """Converts an array of `hf_shape` to one of `shape`."""
        order = "".join(self._hf_axes)
        x = x.reshape([self.sizes[a] for a in order])
        return x.transpose([order.index(a) for a in self._axes])

    def to_hf(self, x: np.ndarray) -> np.ndarray:
        """Converts an array of `shape` to one of `hf_shape`."""
        order = [self._axes.index(a) for a in "".join(self._hf_axes)]
        return np.ascontiguousarray(x.transpose(order).reshape(self.hf_shape))

    @property
    def is_embedding(self) -> bool:
        """Whether the tensor has a row for every token of the vocabulary."""
        return "V" in self._axes

    @property
    def _axes(self) -> str:
        return self.axes.split("->")[0]

    @property
    def _hf_axes(self) -> list[str]:
        return self.axes.split("->")[1].split(",")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A parameter of pgjax, and the tensors of Hugging Face that it consists of.

    Attributes:
      name: the parameter's name in pgjax.
      layers: the parts of each layer; a parameter outside of the layers has one list of them.
      stacked: whether the first axis of the parameter is that of the layers.
      split: whether the next axis is that of the parts.
    """

    name: str
    layers: list[list[Part]]
    stacked: bool
    split: bool


def key_table(spec: Mapping[str, Any]) -> list[Entry]:
    """Returns an entry for every parameter of a model.

    Args:
      spec: the model's explicit sizes, as `spec_from_config` returns them.
    """
    img, llm = spec["img"], spec["llm"]
    patch_h, patch_w = img["patch_size"]
    i = {
        "D": img["width"], "F": img["mlp_dim"], "N": img["num_heads"],
        "H": img["width"] // img["num_heads"], "W": llm["width"], "o": 1, "c": 3,
        "h": patch_h, "w": patch_w, "P": (spec["res"] // patch_h) * (spec["res"] // patch_w),
    }  # fmt: skip
    t = {
        "D": llm["width"], "F": llm["mlp_dim"], "N": llm["num_heads"], "K": llm["num_kv_heads"],
        "H": llm["head_dim"], "V": llm["vocab_size"],
    }  # fmt: skip
    norms = _GEMMA2_NORMS if llm.get("post_norms") else _GEMMA_NORMS
    img_layer, llm_layer = f"{_TOWER}encoder.layers.{{}}.", f"{_DECODER}layers.{{}}."
    return [
        *_entries(_IMG, "img/", _TOWER, i),
        *_entries(_IMG_LAYER, "img/Transformer/encoderblock/", img_layer, i, img["depth"]),
        *_entries(_HEAD, "img/head/", _PROJECTOR, i),
        *_entries(_LLM, "llm/", _DECODER, t),
        *_entries((*_LLM_LAYER, *norms), "llm/layers/", llm_layer, t, llm["depth"]),
    ]


def _entries(
    rules: Sequence[_Rule], prefix: str, hf_prefix: str, sizes: Mapping[str, int], depth: int = 0
) -> list[Entry]:
    names = dict.fromkeys(name for name, *_ in rules)
    return [
        Entry(
            prefix + name,
            [
                [
                    Part(hf_prefix.format(i) + key, axes, sizes)
                    for n, key, axes in rules
                    if n == name
                ]
                for i in range(max(depth, 1))
            ],
            stacked=depth > 0,
            split=sum(n == name for n, *_ in rules) > 1,
        )
        for name in names
    ]


def released_name(name: str) -> str:
    """Returns the released files' name of a tensor that transformers 4.52 or later has written."""
    name = name.removeprefix("model.")
    for tower, inner in (("vision_tower.", "vision_model."), ("language_model.", "model.")):
        rest = name.removeprefix(tower)
        if rest != name and not rest.startswith((inner, "lm_head.")):
            return tower + inner + rest
    return name


def transformers_5_name(name: str) -> str:
    """Returns the name that transformers 5 gives to a tensor of the released files."""
    name = name.replace("vision_tower.vision_model.", "vision_tower.")
    return "model." + name.replace("language_model.model.", "language_model.")
