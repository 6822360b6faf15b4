"""Reads and writes LoRA adapters in the layout of peft, and merges adapters into their matrices.

peft stores a pair of matrices `lora_A` [r, in] and `lora_B` [out, r] for each linear layer of
transformers' model. pgjax stores them beside its own matrix `…/w`, as `…/w_lora_a` and
`…/w_lora_b`, with the axes of that matrix; the key table of Hugging Face folders tells which of the
axes are `in` and which are `out`.
"""

import dataclasses
import json
import pathlib
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pgjax.checkpoints.hf_layout import (
    EMBEDDING,
    OUTPUT_LAYERS,
    Entry,
    Part,
    key_table,
    released_name,
    transformers_5_name,
)
from pgjax.checkpoints.huggingface import (
    assemble,
    check_stored,
    drop_tied_output_layer,
    without_padding,
)
from pgjax.checkpoints.json_file import JsonObject, read_json
from pgjax.checkpoints.safetensors_file import open_safetensors, save_safetensors
from pgjax.checkpoints.tensors import Converted, InMemory, Tensor, Transformed
from pgjax.errors import UserError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
WEIGHTS_BIN = "adapter_model.bin"
HEAD, TABLE = "img/head/kernel", "llm/embedder/input_embedding"
PROJECTOR = (HEAD, "img/head/bias")
_TRAINED = (*PROJECTOR, TABLE)  # parameters that may be trained beside adapters
_MODULE = "multi_modal_projector"
_PREFIX = "base_model.model."
_MOST_RANK = 2**16  # more than the width of any matrix that has adapters
_ADAPTER = re.compile(r"(.*)_lora_[ab]")

# Settings that would change the model in a way that pgjax does not support.
_REFUSED = (
    "alora_invocation_tokens", "alpha_pattern", "arrow_config", "bias", "fan_in_fan_out",
    "kasa_config", "layer_replication", "lora_bias", "rank_pattern", "target_parameters",
    "trainable_token_indices", "use_bdlora", "use_dora", "use_qalora",
)  # fmt: skip
_HARMLESS_INITS = (
    True,
    False,
    None,
    "gaussian",
    "eva",
    "orthogonal",
)  # All others change the base.


def adapter_table(spec: Mapping[str, Any], rank: int) -> list[Entry]:
    """Returns an entry for each factor of each matrix that can have an adapter.

    Args:
      spec: the model's explicit sizes.
      rank: the rank r of the adapters.
    """
    return [
        dataclasses.replace(
            entry,
            name=f"{entry.name}_lora_{factor}",
            layers=[[_factor(part, factor, rank) for part in layer] for layer in entry.layers],
        )
        for entry in key_table(spec)
        if entry.stacked and len(entry.layers[0][0].hf_shape) == 2
        for factor in "ab"
    ]


def _factor(part: Part, factor: str, rank: int) -> Part:
    """Returns a factor of a matrix with the axes `…->out,in`, which is [in, r] or [r, out]."""
    out, into = part.axes.split("->")[1].split(",")
    axes = f"{into}R->R,{into}" if factor == "a" else f"R{out}->{out},R"
    name = part.hf_name.removesuffix("weight") + f"lora_{factor.upper()}.weight"
    return Part(name, axes, {**part.sizes, "R": rank})


def is_adapter(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds an adapter of peft."""
    return (folder / CONFIG).is_file()


def read_config(folder: pathlib.Path) -> dict[str, Any]:
    """Reads the `adapter_config.json` of a folder.

    Raises:
      UserError: the file is not a JSON object, or a key says that the adapter is of a kind that
        pgjax does not support.
    """
    return dict(_open_config(folder).values)


def _open_config(folder: pathlib.Path) -> JsonObject:
    config = read_json(folder / CONFIG)
    if config.text("peft_type", "") != "LORA":
        raise config.error("peft_type", "'LORA'")
    config.text("base_model_name_or_path", "")
    config.text("revision", "")
    for key in _REFUSED:
        if (value := config.values.get(key)) and (key, value) != ("bias", "none"):
            raise UserError(f"{config.path}: {key} is {value!r}, which pgjax does not support.")
    if (init := config.values.get("init_lora_weights")) not in _HARMLESS_INITS:
        raise UserError(
            f"{config.path}: init_lora_weights {init!r} changes the base as well; save the adapter "
            "as a plain one (peft's path_initial_model_for_weight_conversion)."
        )
    return config


def open_adapter(
    folder: pathlib.Path, spec: Mapping[str, Any], base: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Opens an adapter and reads its headers.

    An adapter of the projector, as `target_modules="all-linear"` makes it, is merged into the
    projector's matrix, which is then float32.

    If peft adapts only one of two matrices that are one parameter in pgjax (key and value; gate and
    up), the adapter of the other one is zero.

    Args:
      folder: holds `adapter_config.json` and `adapter_model.safetensors`.
      spec: the explicit sizes of the base.
      base: the tensors of the base.

    Returns:
      (the tensors under pgjax's names, the settings for `model.lora`).

    Raises:
      UserError: see `read_config`; or tensors are missing, left over or do not fit the base.
    """
    config = _open_config(folder)
    rank = config.integer("r", high=_MOST_RANK)
    lora = {
        "rank": rank,
        "alpha": config.number("lora_alpha"),
        "rslora": config.flag("use_rslora", False),
        "dropout": config.number("lora_dropout", 0.0),
    }
    stored = _open_weights(folder)
    _check_embedding(stored, folder, spec)
    table = {entry.name: entry for entry in key_table(spec)}
    head = table[HEAD].layers[0][0]
    factors = [_factor(head, factor, rank) for factor in "ab"]
    factors = factors if any(part.hf_name in stored for part in factors) else []
    adapted = _adapted_parts(adapter_table(spec, rank), stored, config)
    if not adapted:
        raise UserError(
            f"{folder / WEIGHTS} adapts no matrix of this model; it holds {sorted(stored)[:3]} …."
        )
    trained = [table[name] for name in _TRAINED if table[name].layers[0][0].hf_name in stored]
    expected = [*factors, *(part for _, parts in adapted for part in parts)]
    expected += [part for entry in trained for part in entry.layers[0]]
    check_stored(expected, stored, what=f"Adapter {folder}")
    tensors = {entry.name: assemble(entry, _filled(entry, stored)) for entry, _ in adapted}
    tensors |= {entry.name: assemble(entry, stored) for entry in trained}
    if factors:
        scale = lora["alpha"] / (rank**0.5 if lora["rslora"] else rank)
        a, b = (stored[part.hf_name] for part in factors)
        tensors[HEAD] = _merged_head(tensors.get(HEAD, base[HEAD]), head, a, b, scale)
    return tensors, {**lora, "targets": "|".join(_adapted_matrices(tensors))}


def _check_embedding(
    stored: dict[str, Tensor], folder: pathlib.Path, spec: Mapping[str, Any]
) -> None:
    """Checks that a trained embedding is the output layer too, and leaves its padding out.

    peft trains copies of the modules in `modules_to_save`, which are not tied to each other.
    """
    trained = [name for name in (EMBEDDING, *OUTPUT_LAYERS) if name in stored]
    if not trained:
        return
    if EMBEDDING not in trained or len(trained) == 1:
        raise UserError(
            f"{folder}: modules_to_save has trained {trained[0]} alone, so that embedding and "
            "output layer differ, and pgjax ties the two; train them with peft's "
            "ensure_weight_tying=True."
        )
    drop_tied_output_layer(stored, folder)
    stored[EMBEDDING] = without_padding(stored[EMBEDDING], spec["llm"]["vocab_size"])


def _merged_head(matrix: Tensor, part: Part, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Merges the projector's adapter into its matrix."""

    def change(w: np.ndarray) -> np.ndarray:
        low, high = (x.read().astype(np.float32) for x in (a, b))
        return w + np.float32(scale) * part.from_hf(high @ low)

    return Transformed(Converted(matrix, np.dtype(np.float32)), matrix.shape, change)


def _open_weights(folder: pathlib.Path) -> dict[str, Tensor]:
    """Opens an adapter's tensors under the names of the released files."""
    path = folder / WEIGHTS
    if not path.exists() and (folder / WEIGHTS_BIN).exists():
        raise UserError(
            f"{folder} holds its adapter as {WEIGHTS_BIN}, which is a pickle and can run code; "
            f"load it in peft and save it again, which writes {WEIGHTS}."
        )
    return {
        released_name(name.removeprefix(_PREFIX)).replace(".default.weight", ".weight"): x
        for name, x in open_safetensors(path).items()
    }


def _adapted_parts(
    table: Sequence[Entry], stored: Mapping[str, Tensor], config: JsonObject
) -> list[tuple[Entry, list[Part]]]:
    """Returns the entries that an adapter has, with the parts that its file must hold.

    A linear layer that is adapted at all is adapted in every layer of the model, unless
    `layers_to_transform` chooses layers.
    """
    every_layer = not config.values.get("layers_to_transform")
    adapted = []
    for entry in table:
        parts: list[Part] = []
        for in_each_layer in zip(*entry.layers, strict=True):
            found = [part for part in in_each_layer if _pair(part.hf_name) & stored.keys()]
            parts += in_each_layer if found and every_layer else found
        if parts:
            adapted.append((entry, parts))
    return adapted


def _pair(name: str) -> set[str]:
    """Returns the names of both factors of an adapter, given one of them."""
    return {re.sub(r"lora_[AB]", f"lora_{factor}", name) for factor in "AB"}


def _filled(entry: Entry, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of an entry, with zeros for those that are not stored."""
    return {
        part.hf_name: stored[part.hf_name]
        if part.hf_name in stored
        else InMemory(np.zeros(part.hf_shape, np.float32))
        for layer in entry.layers
        for part in layer
    }


def _adapted_matrices(names: Iterable[str]) -> list[str]:
    """Returns the names of the matrices whose adapters are among some names."""
    return list(dict.fromkeys(m[1] for m in map(_ADAPTER.fullmatch, names) if m))


def write_adapter(
    folder: pathlib.Path,
    tensors: Mapping[str, Tensor],
    spec: Mapping[str, Any],
    lora: Mapping[str, Any],
    *,
    base: str | None,
    revision: str | None = None,
) -> None:
    """Writes an adapter that peft loads on top of its base.

    The folder gets its name only when it is complete.

    Args:
      folder: the folder to write, which must not exist.
      tensors: the adapters by pgjax's names, and optionally the projector.
      spec: the model's explicit sizes.
      lora: the adapters' `rank`, `alpha`, `rslora` and `dropout`.
      base: the path or repository of the base that peft is to load, or None to leave that open.
      revision: the branch of the repository.

    Raises:
      UserError: the folder exists or cannot be written, or other parameters were trained as well.
    """
    table = {e.name: e for e in adapter_table(spec, lora["rank"])}
    table |= {e.name: e for e in key_table(spec) if e.name in PROJECTOR}
    if others := sorted(tensors.keys() - table.keys()):
        raise UserError(
            "A folder in peft's layout can hold adapters and the projector, but "
            f"{others[:3]} … were trained too; export the merged model instead."
        )
    if folder.exists():
        raise UserError(f"{folder} exists already, expected a new folder.")
    arrays = {
        f"{_PREFIX}{transformers_5_name(part.hf_name)}": part.to_hf(x)
        for name, tensor in tensors.items()
        for part, x in _parts(table[name], tensor)
    }
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": revision,
        "r": lora["rank"],
        "lora_alpha": lora["alpha"],
        "use_rslora": lora["rslora"],
        "lora_dropout": lora["dropout"],
        "target_modules": _module_pattern(arrays),
        "modules_to_save": [_MODULE] if any(n in PROJECTOR for n in tensors) else None,
        "bias": "none",
        "inference_mode": True,
    }
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        save_safetensors(part / WEIGHTS, arrays)
        (part / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        part.replace(folder)
    except OSError as e:
        shutil.rmtree(part, ignore_errors=True)
        raise UserError(f"{folder} could not be written ({e}).") from None


def _module_pattern(names: Iterable[str]) -> str:
    """Makes the regular expression of the linear layers that have adapters, in any layer."""
    modules = [n.split(".lora_")[0].removeprefix(_PREFIX) for n in names if ".lora_" in n]
    patterns = [
        re.sub(r"layers\\\.\d+\\\.", r"layers\\.\\d+\\.", re.escape(name)) for name in modules
    ]
    return "|".join(dict.fromkeys(patterns))


def _parts(entry: Entry, tensor: Tensor) -> Iterator[tuple[Part, np.ndarray]]:
    """Yields the parts of a parameter, each with its values in pgjax's axes."""
    x = tensor.read()
    for i, layer in enumerate(entry.layers):
        for j, part in enumerate(layer):
            values = x[i] if entry.stacked else x
            yield part, values[j] if entry.split else values


def merged(
    tensors: Mapping[str, Tensor], spec: Mapping[str, Any], scale: float
) -> dict[str, Tensor]:
    """Merges a model's adapters into their matrices.

    Args:
      tensors: the model's tensors, of which at least one is an adapter.
      spec: the model's explicit sizes.
      scale: the factor of the product of an adapter's factors.

    Returns:
      The tensors without adapters; reading a matrix that had one gives float32.
    """
    matrices = {e.name: e for e in key_table(spec)}
    adapted = _adapted_matrices(tensors)
    rank = tensors[f"{adapted[0]}_lora_a"].shape[-1]
    factors = {e.name: e for e in adapter_table(spec, rank)}
    result = {name: x for name, x in tensors.items() if not _ADAPTER.fullmatch(name)}
    for name in adapted:
        a, b = (_Factor(factors[n], tensors[n]) for n in (f"{name}_lora_a", f"{name}_lora_b"))
        result[name] = _Merged(tensors[name], matrices[name], a, b, scale)
    return result


class _Factor(NamedTuple):
    """One factor of an adapter."""

    entry: Entry
    tensor: Tensor


@dataclasses.dataclass(frozen=True)
class _Merged:
    """The matrix W + scale·A·B, which is computed for the layers that are read."""

    matrix: Tensor
    entry: Entry
    a: _Factor
    b: _Factor
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.matrix.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the matrix; `read` gives float32, and leaves rounding to the caller."""
        return self.matrix.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        result = self.matrix.read(start, stop).astype(np.float32)
        a, b = (x.tensor.read(start, stop).astype(np.float32) for x in (self.a, self.b))
        for i, layer in enumerate(range(start, stop)):
            for j, part in enumerate(self.entry.layers[layer]):
                at = (i, j) if self.entry.split else (i,)
                low = self.a.entry.layers[layer][j].to_hf(a[at])
                high = self.b.entry.layers[layer][j].to_hf(b[at])
                result[at] += self.scale * part.from_hf(high @ low)
        return result
