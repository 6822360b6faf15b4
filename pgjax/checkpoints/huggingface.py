"""Hugging Face folders: safetensors and `config.json`, read into and written from pgjax's layout.

A rule says under which name Hugging Face keeps a parameter, and how its axes go over:
`DNH->NH,D` takes our axes D, N, H to a matrix whose rows are N and H together and whose columns
are D. Read from right to left, it is the way back.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from pgjax.checkpoints.tensors import Mapped, Stacked, Tensor
from pgjax.errors import UserError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PADDING = 64  # rows that the released files add to the embedding, at most

# (name here, name there, axes). The rules of a layer hold for each; several rules for one name
# are the parts along its first axis.
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
_EMBEDDING = f"{_DECODER}embed_tokens.weight"
_HEADS = ("lm_head.weight", "language_model.lm_head.weight")


@dataclasses.dataclass(frozen=True)
class Part:
    """One tensor there, and the axes that it has here."""

    theirs: str
    axes: str
    sizes: Mapping[str, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape here."""
        return tuple(self.sizes[a] for a in self._ours)

    @property
    def their_shape(self) -> tuple[int, ...]:
        """Shape there."""
        return tuple(math.prod(self.sizes[a] for a in group) for group in self._groups)

    def read(self, x: np.ndarray) -> np.ndarray:
        """There -> here."""
        theirs = "".join(self._groups)
        x = x.reshape([self.sizes[a] for a in theirs])
        return x.transpose([theirs.index(a) for a in self._ours])

    def write(self, x: np.ndarray) -> np.ndarray:
        """Here -> there."""
        order = [self._ours.index(a) for a in "".join(self._groups)]
        return np.ascontiguousarray(x.transpose(order).reshape(self.their_shape))

    @property
    def is_embedding(self) -> bool:
        """Whether it has a row for every token of the vocabulary."""
        return "V" in self._ours

    @property
    def _ours(self) -> str:
        return self.axes.split("->")[0]

    @property
    def _groups(self) -> list[str]:
        return self.axes.split("->")[1].split(",")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A parameter here: its parts there, for each layer."""

    ours: str
    layers: list[list[Part]]
    stacked: bool  # over layers
    parts: bool  # along the first axis


def key_table(spec: Mapping[str, Any]) -> list[Entry]:
    """Every parameter of a model with explicit sizes, as `spec_from_config` gives them."""
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


def _entries(rules, ours: str, theirs: str, sizes, depth: int = 0) -> list[Entry]:
    names = dict.fromkeys(name for name, *_ in rules)
    return [
        Entry(
            ours + name,
            [
                [Part(theirs.format(i) + key, axes, sizes) for n, key, axes in rules if n == name]
                for i in range(max(depth, 1))
            ],
            stacked=depth > 0,
            parts=sum(n == name for n, *_ in rules) > 1,
        )
        for name in names
    ]


# ------------------------------------------------------------------------------------- reading


@dataclasses.dataclass(frozen=True)
class _Stored:
    """A tensor of a safetensors file; the file is mapped only while it is read."""

    path: pathlib.Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        from safetensors import safe_open

        with safe_open(self.path, "np") as f:
            return f.get_slice(self.name)[start:stop] if self.shape else f.get_tensor(self.name)


@dataclasses.dataclass(frozen=True)
class _Top:
    """The first rows of a tensor."""

    source: Tensor
    rows: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.rows, *self.source.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return self.source.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        start, stop, _ = slice(start, stop).indices(self.rows)
        return self.source.read(start, stop)


def open_folder(folder: pathlib.Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Opens a folder with `config.json` and safetensors; only headers are read.

    Args:
      folder: single file or shards, with the names of the released files or those that
        transformers 5 writes, the embedding padded or not.

    Returns:
      (tensors under pgjax's names, model spec with explicit sizes).

    Raises:
      UserError: a missing file, a model that pgjax does not have, a tensor too many or missing or
        of another shape; all of these are listed.
    """
    spec = spec_from_config(read_json(folder / CONFIG), folder / CONFIG)
    stored = _open_files(folder)
    vocab = spec["llm"]["vocab_size"]
    if _EMBEDDING in stored:
        if vocab < stored[_EMBEDDING].shape[0] <= vocab + PADDING:
            stored[_EMBEDDING] = _Top(stored[_EMBEDDING], vocab)
        _drop_tied_head(stored, folder)
    table = key_table(spec)
    _check(folder, stored, [part for e in table for layer in e.layers for part in layer])
    return {entry.ours: joined(entry, stored) for entry in table}, spec


def joined(entry: Entry, stored: Mapping[str, Tensor]) -> Tensor:
    """A parameter here, from its parts there."""
    layers = []
    for layer in entry.layers:
        parts = [Mapped(stored[p.theirs], p.shape, p.read) for p in layer]
        layers.append(Stacked(parts) if entry.parts else parts[0])
    if layer[0].is_embedding:  # as it is, so that rows of it can be read alone
        return stored[layer[0].theirs]
    return Stacked(layers) if entry.stacked else layers[0]


def _open_files(folder: pathlib.Path) -> dict[str, Tensor]:
    if (folder / INDEX).exists():
        files = sorted(set(read_json(folder / INDEX)["weight_map"].values()))
    elif (folder / WEIGHTS).exists():
        files = [WEIGHTS]
    else:
        raise UserError(f"{folder} holds neither {WEIGHTS} nor {INDEX}.")
    stored: dict[str, Tensor] = {}
    for file in files:
        if not (folder / file).exists():
            raise UserError(f"{folder / file} is missing, but {INDEX} names it.")
        found = open_safetensors(folder / file)
        stored |= {released_name(name): x for name, x in found.items()}
    return stored


def open_safetensors(path: pathlib.Path) -> dict[str, Tensor]:
    """Opens a file; only its header is read.

    Raises:
      UserError: not readable, or it holds something else than floats.
    """
    from safetensors import SafetensorError, safe_open

    stored: dict[str, Tensor] = {}
    try:
        with safe_open(path, "np") as f:
            for name in f.keys():  # noqa: SIM118 (not a dict)
                x = f.get_slice(name)
                dtype = _DTYPES.get(x.get_dtype())
                if dtype is None:
                    raise UserError(f"{path}: {name} is {x.get_dtype()}, expected floats.")
                stored[name] = _Stored(path, name, tuple(x.get_shape()), np.dtype(dtype))
    except (SafetensorError, OSError) as e:
        raise UserError(
            f"{path} is not a readable safetensors file ({e}); it may be truncated."
        ) from None
    return stored


_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def _drop_tied_head(stored: dict[str, Tensor], folder: pathlib.Path) -> None:
    """Removes an output layer that repeats the embedding; another one pgjax does not have."""
    table = stored[_EMBEDDING]
    for name in _HEADS:
        if (head := stored.pop(name, None)) is None:
            continue
        for i in range(0, table.shape[0], 4096):
            stop = min(i + 4096, table.shape[0])
            if not np.array_equal(head.read(i, stop), table.read(i, stop)):
                raise UserError(f"{folder}: {name} is not the embedding; pgjax ties the two.")


def released_name(name: str) -> str:
    """The released files' name for one that transformers 4.52 or later writes."""
    name = name.removeprefix("model.")
    for tower, inner in (("vision_tower.", "vision_model."), ("language_model.", "model.")):
        rest = name.removeprefix(tower)
        if rest != name and not rest.startswith((inner, "lm_head.")):
            return tower + inner + rest
    return name


def _check(folder: pathlib.Path, stored: Mapping[str, Tensor], parts: list[Part]) -> None:
    from pgjax import trees

    expected = {p.theirs: np.broadcast_to(np.float32(0), p.their_shape) for p in parts}
    trees.check_same(expected, stored, what=f"Checkpoint {folder}")


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Reads a JSON file.

    Raises:
      UserError: missing, or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path.parent} is not a Hugging Face folder: no {path.name}.") from None
    except json.JSONDecodeError as e:
        raise UserError(f"{path}:{e.lineno}: not JSON ({e.msg}).") from None


def spec_from_config(config: Mapping[str, Any], where: pathlib.Path) -> dict[str, Any]:
    """Model spec of a `config.json`, with the defaults of transformers for what it leaves out.

    Raises:
      UserError: a model that pgjax does not have, by the key that says so.
    """
    if config.get("model_type") != "paligemma":
        raise UserError(f"{where}: model_type {config.get('model_type')!r}, expected 'paligemma'.")
    text, vision = config["text_config"], config["vision_config"]
    kind = text.get("model_type", "gemma")
    if kind not in ("gemma", "gemma2"):
        raise UserError(f"{where}: text_config.model_type {kind!r}, expected gemma or gemma2.")
    if vision.get("vision_use_head"):
        raise UserError(f"{where}: vision_config.vision_use_head is true, expected false.")
    width, heads = text["hidden_size"], text["num_attention_heads"]
    llm = {
        "width": width,
        "depth": text["num_hidden_layers"],
        "mlp_dim": text["intermediate_size"],
        "num_heads": heads,
        "num_kv_heads": text["num_key_value_heads"],
        "head_dim": text.get("head_dim", 256),
        # The image token comes after the vocabulary; what follows it is padding.
        "vocab_size": config.get("image_token_index", text["vocab_size"]),
        "norm_eps": text.get("rms_norm_eps", 1e-6),
    }
    if kind == "gemma2":
        llm |= {
            "post_norms": True,
            "attn_softcap": text.get("attn_logit_softcapping") or 0.0,
            "final_softcap": text.get("final_logit_softcapping") or 0.0,
            "query_scale": text.get("query_pre_attn_scalar", 256) ** -0.5,
        }
    patch = vision["patch_size"]
    return {
        "res": vision.get("image_size", 224),
        "img": {
            "width": vision["hidden_size"],
            "depth": vision["num_hidden_layers"],
            "mlp_dim": vision["intermediate_size"],
            "num_heads": vision["num_attention_heads"],
            "patch_size": (patch, patch),
        },
        "llm": llm,
    }
