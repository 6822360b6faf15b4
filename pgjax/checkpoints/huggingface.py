"""Reads Hugging Face folders, which hold `config.json` and safetensors, as pgjax's tensors."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pgjax import trees
from pgjax.checkpoints.hf_layout import (
    EMBEDDING,
    OUTPUT_LAYERS,
    PADDING,
    Entry,
    Part,
    key_table,
    released_name,
)
from pgjax.checkpoints.json_file import JsonObject, read_json
from pgjax.checkpoints.tensors import Stacked, Tensor, Transformed
from pgjax.errors import UserError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_MOST_LAYERS = 1000  # more than any model has
_ROWS_AT_A_TIME = 4096  # the rows of the embedding that are compared at a time


@dataclasses.dataclass(frozen=True)
class _Stored:
    """A tensor of a safetensors file, which is mapped into memory only while it is read."""

    path: pathlib.Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        from safetensors import safe_open

        with safe_open(self.path, "np") as f:
            return f.get_slice(self.name)[start:stop] if self.shape else f.get_tensor(self.name)


@dataclasses.dataclass(frozen=True)
class _FirstRows:
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
    """Opens a folder with `config.json` and safetensors, and reads its headers.

    Args:
      folder: holds a single file or shards, with the names of the released files or those of
        transformers 5; the embedding may be padded.

    Returns:
      (the tensors under pgjax's names, the model's spec with explicit sizes).

    Raises:
      UserError: a file is missing or unreadable, the model is of a kind that pgjax lacks, or
        tensors are missing, left over or of another shape; the message lists them all.
    """
    spec = spec_from_config(_read_hf_json(folder, CONFIG))
    stored = _open_files(folder)
    vocab = spec["llm"]["vocab_size"]
    if EMBEDDING in stored:
        if vocab < stored[EMBEDDING].shape[0] <= vocab + PADDING:
            stored[EMBEDDING] = _FirstRows(stored[EMBEDDING], vocab)
        _drop_tied_output_layer(stored, folder)
    table = key_table(spec)
    parts = [part for entry in table for layer in entry.layers for part in layer]
    check_stored(parts, stored, what=f"Checkpoint {folder}")
    return {entry.name: assemble(entry, stored) for entry in table}, spec


def assemble(entry: Entry, stored: Mapping[str, Tensor]) -> Tensor:
    """Makes the parameter of an entry from the tensors that Hugging Face stores."""
    first = entry.layers[0][0]
    if first.is_embedding:  # It has the same axes, so that its rows can be read alone.
        return stored[first.hf_name]
    layers: list[Tensor] = []
    for layer in entry.layers:
        parts = [Transformed(stored[p.hf_name], p.shape, p.from_hf) for p in layer]
        layers.append(Stacked(parts) if entry.split else parts[0])
    return Stacked(layers) if entry.stacked else layers[0]


def check_stored(parts: Sequence[Part], stored: Mapping[str, Tensor], *, what: str) -> None:
    """Checks that stored tensors are those of the parts, no more and no less.

    Raises:
      UserError: tensors are missing, left over or of another shape; the message lists them all.
    """
    expected = {p.hf_name: np.broadcast_to(np.float32(0), p.hf_shape) for p in parts}
    trees.check_same(expected, stored, what=what)


def _read_hf_json(folder: pathlib.Path, name: str) -> JsonObject:
    if not (folder / name).exists():
        raise UserError(f"{folder} is not a Hugging Face folder, because it has no {name}.")
    return read_json(folder / name)


def _open_files(folder: pathlib.Path) -> dict[str, Tensor]:
    if (folder / INDEX).exists():
        index = read_json(folder / INDEX).section("weight_map")
        files = sorted({_shard_name(index, key) for key in index.values})
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


def _shard_name(index: JsonObject, key: str) -> str:
    name = index.text(key)
    if pathlib.PurePath(name).name != name:
        raise index.error(key, "the name of a file in this folder")
    return name


def open_safetensors(path: pathlib.Path) -> dict[str, Tensor]:
    """Opens a safetensors file and reads its header.

    Raises:
      UserError: the file is not readable, or holds a tensor that is not float32, float16 or
        bfloat16.
    """
    from safetensors import SafetensorError, safe_open

    stored: dict[str, Tensor] = {}
    try:
        with safe_open(path, "np") as f:
            for name in f.keys():  # noqa: SIM118 (this is not a dict)
                x = f.get_slice(name)
                dtype = _DTYPES.get(x.get_dtype())
                if dtype is None:
                    raise UserError(
                        f"{path}: the tensor {name} is {x.get_dtype()}, expected one of "
                        f"{', '.join(_DTYPES)}."
                    )
                stored[name] = _Stored(path, name, tuple(x.get_shape()), np.dtype(dtype))
    except (SafetensorError, OSError) as e:
        raise UserError(
            f"{path} is not a readable safetensors file ({e}); it may be truncated."
        ) from None
    return stored


def _drop_tied_output_layer(stored: dict[str, Tensor], folder: pathlib.Path) -> None:
    """Removes an output layer that repeats the embedding; pgjax supports no other."""
    table = stored[EMBEDDING]
    for name in OUTPUT_LAYERS:
        if (layer := stored.pop(name, None)) is None:
            continue
        for i in range(0, table.shape[0], _ROWS_AT_A_TIME):
            stop = min(i + _ROWS_AT_A_TIME, table.shape[0])
            if not np.array_equal(layer.read(i, stop), table.read(i, stop)):
                raise UserError(
                    f"{folder}: {name} is not the embedding, expected equal values, because pgjax "
                    "ties the two."
                )


def spec_from_config(config: JsonObject) -> dict[str, Any]:
    """Returns the model spec of a `config.json`; keys that it lacks have transformers' defaults.

    Raises:
      UserError: a key says that the model is of a kind that pgjax lacks, or its value is not of
        the expected type or range.
    """
    if config.text("model_type", "") != "paligemma":
        raise config.error("model_type", "'paligemma'")
    vision = config.section("vision_config")
    if vision.flag("vision_use_head", False):
        raise vision.error("vision_use_head", "false")
    patch = vision.integer("patch_size")
    return {
        "res": vision.integer("image_size", 224),
        "img": {
            "width": vision.integer("hidden_size"),
            "depth": vision.integer("num_hidden_layers", high=_MOST_LAYERS),
            "mlp_dim": vision.integer("intermediate_size"),
            "num_heads": vision.integer("num_attention_heads"),
            "patch_size": (patch, patch),
        },
        "llm": _decoder_spec(config),
    }


def _decoder_spec(config: JsonObject) -> dict[str, Any]:
    text = config.section("text_config")
    kind = text.text("model_type", "gemma")
    if kind not in ("gemma", "gemma2"):
        raise text.error("model_type", "'gemma' or 'gemma2'")
    spec = {
        "width": text.integer("hidden_size"),
        "depth": text.integer("num_hidden_layers", high=_MOST_LAYERS),
        "mlp_dim": text.integer("intermediate_size"),
        "num_heads": text.integer("num_attention_heads"),
        "num_kv_heads": text.integer("num_key_value_heads"),
        "head_dim": text.integer("head_dim", 256),
        "vocab_size": _vocabulary(config, text),
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


def _vocabulary(config: JsonObject, text: JsonObject) -> int:
    """Returns the size of the vocabulary without the image token and the padding after it."""
    if "image_token_index" in config.values:
        return config.integer("image_token_index")
    return text.integer("vocab_size")


def _softcap(text: JsonObject, key: str, default: float) -> float:
    """Returns a cap of logits; null means that there is none, which is 0 in pgjax."""
    return 0.0 if text.values.get(key, default) is None else text.number(key, default)
