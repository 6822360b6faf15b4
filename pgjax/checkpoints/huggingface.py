"""Reads Hugging Face folders, which hold `config.json` and safetensors, as pgjax's tensors."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pgjax import trees
from pgjax.checkpoints.hf_config import spec_from_config
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
from pgjax.checkpoints.safetensors_file import open_safetensors
from pgjax.checkpoints.tensors import FirstRows, Stacked, Tensor, Transformed
from pgjax.errors import UserError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_ROWS_AT_A_TIME = 4096  # the rows of the embedding that are compared at a time


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
        drop_tied_output_layer(stored, folder)
        stored[EMBEDDING] = without_padding(stored[EMBEDDING], vocab)
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


def without_padding(table: Tensor, vocab: int) -> Tensor:
    """Returns an embedding without the unused rows that it may have after its vocabulary."""
    return FirstRows(table, vocab) if vocab < table.shape[0] <= vocab + PADDING else table


def drop_tied_output_layer(stored: dict[str, Tensor], folder: pathlib.Path) -> None:
    """Removes an output layer that repeats the embedding.

    Raises:
      UserError: it is another matrix, which pgjax does not support.
    """
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
