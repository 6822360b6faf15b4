"""LoRA adapters in the layout of peft, and adapters merged into their matrices.

peft keeps a pair of matrices `lora_A` [R,in] and `lora_B` [out,R] for each linear layer of
transformers' model. pgjax keeps them beside its own matrix `…/w`, as `…/w_lora_a` and `…/w_lora_b`,
with the axes that the matrix has: which of them are `in` and which `out` is read off the key table
of Hugging Face folders.
"""

import dataclasses
import json
import pathlib
import re
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from pgjax import trees
from pgjax.checkpoints.huggingface import (
    Entry,
    Part,
    joined,
    key_table,
    open_safetensors,
    released_name,
)
from pgjax.checkpoints.tensors import InMemory, Tensor
from pgjax.errors import UserError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PROJECTOR = ("img/head/kernel", "img/head/bias")  # what may train beside adapters
_MODULE = "multi_modal_projector"
_PREFIX = "base_model.model."
_ADAPTER = re.compile(r"(.*)_lora_[ab]")

# What would change the model in a way that pgjax does not have.
_REFUSED = (
    "alora_invocation_tokens", "alpha_pattern", "arrow_config", "bias", "fan_in_fan_out",
    "kasa_config", "layer_replication", "lora_bias", "rank_pattern", "target_parameters",
    "trainable_token_indices", "use_bdlora", "use_dora", "use_qalora",
)  # fmt: skip
_HARMLESS_INITS = (True, False, None, "gaussian", "eva", "orthogonal")  # others change the base


def adapter_table(spec: Mapping[str, Any], rank: int) -> list[Entry]:
    """An entry for each factor of each matrix that can have an adapter.

    Args:
      spec: explicit sizes of the model.
      rank: R.
    """
    return [
        dataclasses.replace(
            entry,
            ours=entry.ours + f"_lora_{factor}",
            layers=[[_factor(part, factor, rank) for part in layer] for layer in entry.layers],
        )
        for entry in key_table(spec)
        if entry.stacked and len(entry.layers[0][0].their_shape) == 2
        for factor in "ab"
    ]


def _factor(part: Part, factor: str, rank: int) -> Part:
    """The part of a matrix `…->out,in` as one of its factors: [in,R] or [R,out] here."""
    out, into = part.axes.split("->")[1].split(",")
    axes = f"{into}R->R,{into}" if factor == "a" else f"R{out}->{out},R"
    name = part.theirs.removesuffix("weight") + f"lora_{factor.upper()}.weight"
    return Part(name, axes, {**part.sizes, "R": rank})


def is_adapter(folder: pathlib.Path) -> bool:
    """Whether a folder holds an adapter of peft."""
    return (folder / CONFIG).is_file()


def read_config(folder: pathlib.Path) -> dict[str, Any]:
    """The `adapter_config.json` of a folder.

    Raises:
      UserError: not JSON, or an adapter of a kind that pgjax does not have, by the key that says
        so.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text())
    except json.JSONDecodeError as e:
        raise UserError(f"{path}:{e.lineno}: not JSON ({e.msg}).") from None
    if config.get("peft_type") != "LORA":
        raise UserError(f"{path}: peft_type {config.get('peft_type')!r}, expected 'LORA'.")
    for key in _REFUSED:
        if (value := config.get(key)) and (key, value) != ("bias", "none"):
            raise UserError(f"{path}: {key} is {value!r}, which pgjax does not have.")
    if (init := config.get("init_lora_weights")) not in _HARMLESS_INITS:
        raise UserError(
            f"{path}: init_lora_weights {init!r} changes the base as well; save the adapter as a "
            "plain one (peft's path_initial_model_for_weight_conversion)."
        )
    return config


def open_adapter(
    folder: pathlib.Path, spec: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Opens an adapter; only headers are read.

    Where peft adapts one of two matrices that pgjax keeps in one parameter (key and value; gate
    and up), the other one's adapter is zero.

    Args:
      folder: with `adapter_config.json` and `adapter_model.safetensors`.
      spec: explicit sizes of the base.

    Returns:
      (tensors under pgjax's names, what `model.lora` says of them).

    Raises:
      UserError: see `read_config`; or tensors that are missing, left over or do not fit the base.
    """
    config = read_config(folder)
    stored = {
        released_name(name.removeprefix(_PREFIX)).replace(".default.weight", ".weight"): x
        for name, x in open_safetensors(folder / WEIGHTS).items()
    }
    rank = config["r"]
    whole = [e for e in key_table(spec) if e.ours in PROJECTOR]
    whole = [e for e in whole if e.layers[0][0].theirs in stored]
    expected = {p.theirs: p for e in whole for p in e.layers[0]}
    tensors: dict[str, Tensor] = {}
    for entry in adapter_table(spec, rank):
        zeros = {}
        for column in zip(*entry.layers, strict=True):  # one linear layer's factor in all layers
            present = any(_pair(p.theirs) & stored.keys() for p in column)
            everywhere = present and not config.get("layers_to_transform")
            expected |= {p.theirs: p for p in column if everywhere or p.theirs in stored}
            zeros |= {p.theirs: InMemory(np.zeros(p.their_shape, np.float32)) for p in column}
        if expected.keys() & zeros.keys():
            tensors[entry.ours] = joined(entry, {**zeros, **stored})
    if not tensors:
        raise UserError(
            f"{folder / WEIGHTS} adapts no matrix of this model; it holds {sorted(stored)[:3]} …"
        )
    shapes = {name: np.broadcast_to(np.float32(0), p.their_shape) for name, p in expected.items()}
    trees.check_same(shapes, stored, what=f"Adapter {folder}")
    tensors |= {e.ours: joined(e, stored) for e in whole}
    matrices = dict.fromkeys(m[1] for m in map(_ADAPTER.fullmatch, tensors) if m)
    lora = {
        "rank": rank,
        "alpha": float(config["lora_alpha"]),
        "rslora": bool(config.get("use_rslora")),
        "dropout": float(config.get("lora_dropout") or 0.0),
        "targets": "|".join(matrices),
    }
    return tensors, lora


def _pair(name: str) -> set[str]:
    """Both factors of a pair, by the name of one."""
    return {re.sub(r"lora_[AB]", f"lora_{factor}", name) for factor in "AB"}


def write_adapter(
    folder: pathlib.Path,
    tensors: Mapping[str, Tensor],
    spec: Mapping[str, Any],
    lora: Mapping[str, Any],
    *,
    base: str | None,
    revision: str | None = None,
) -> None:
    """Writes an adapter that peft loads on top of its base; the folder appears whole or not.

    Args:
      folder: must not exist.
      tensors: adapters under pgjax's names, and perhaps the projection into the decoder.
      spec: explicit sizes of the model.
      lora: rank, alpha, rslora and dropout.
      base: what peft is to load below it, a path or a repository; None to leave that open.
      revision: branch of the repository.

    Raises:
      UserError: the folder exists or cannot be written, or something else trained as well.
    """
    table = {e.ours: e for e in adapter_table(spec, lora["rank"])}
    table |= {e.ours: e for e in key_table(spec) if e.ours in PROJECTOR}
    if others := sorted(tensors.keys() - table.keys()):
        raise UserError(
            f"An adapter in peft's layout holds adapters and the projector, but {others[:3]} … "
            "trained too; export the merged model instead."
        )
    if folder.exists():
        raise UserError(f"{folder} exists already; give a new folder.")
    arrays = {
        f"{_PREFIX}{_current_name(part.theirs)}": part.write(x)
        for name, tensor in tensors.items()
        for part, x in _parts(table[name], tensor)
    }
    modules = dict.fromkeys(
        n.split(".lora_")[0].removeprefix(_PREFIX) for n in arrays if ".lora_" in n
    )
    patterns = dict.fromkeys(
        re.sub(r"layers\\\.\d+\\\.", r"layers\\.\\d+\\.", re.escape(name)) for name in modules
    )
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": revision,
        "r": lora["rank"],
        "lora_alpha": lora["alpha"],
        "use_rslora": lora["rslora"],
        "lora_dropout": lora["dropout"],
        "target_modules": "|".join(patterns),
        "modules_to_save": [_MODULE] if any(n in PROJECTOR for n in tensors) else None,
        "bias": "none",
        "inference_mode": True,
    }
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        from safetensors.numpy import save_file

        part.mkdir(parents=True)
        save_file(arrays, part / WEIGHTS, metadata={"format": "pt"})
        (part / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        part.replace(folder)
    except OSError as e:
        shutil.rmtree(part, ignore_errors=True)
        raise UserError(f"{folder} could not be written ({e}).") from None


def _parts(entry: Entry, tensor: Tensor):
    """(what one tensor there holds, its values in our axes) of a parameter."""
    x = tensor.read()
    for i, layer in enumerate(entry.layers):
        for j, part in enumerate(layer):
            values = x[i] if entry.stacked else x
            yield part, values[j] if entry.parts else values


def _current_name(name: str) -> str:
    """The name of a tensor in transformers 5 for one of the released files."""
    name = name.replace("vision_tower.vision_model.", "vision_tower.")
    return "model." + name.replace("language_model.model.", "language_model.")


def merged(
    tensors: Mapping[str, Tensor], spec: Mapping[str, Any], scale: float
) -> dict[str, Tensor]:
    """The tensors of a model whose adapters have become part of their matrices.

    Args:
      tensors: with adapters; a matrix that has one is read in float32.
      spec: explicit sizes of the model.
      scale: of the product of an adapter's factors.
    """
    matrices = {e.ours: e for e in key_table(spec)}
    names = [m[1] for m in map(_ADAPTER.fullmatch, tensors) if m]
    rank = next(tensors[f"{name}_lora_a"].shape[-1] for name in names)
    factors = {e.ours: e for e in adapter_table(spec, rank)}
    result = {name: x for name, x in tensors.items() if not _ADAPTER.fullmatch(name)}
    for name in dict.fromkeys(names):
        pair = [(factors[f"{name}_lora_{f}"], tensors[f"{name}_lora_{f}"]) for f in "ab"]
        result[name] = _Merged(tensors[name], matrices[name], *pair, scale)
    return result


@dataclasses.dataclass(frozen=True)
class _Merged:
    """W + scale·A·B, a layer at a time."""

    matrix: Tensor
    entry: Entry
    a: tuple[Entry, Tensor]
    b: tuple[Entry, Tensor]
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.matrix.shape

    @property
    def dtype(self) -> np.dtype:
        """Of the matrix; it is left to the reader to round to it."""
        return self.matrix.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        result = self.matrix.read(start, stop).astype(np.float32)
        a, b = (tensor.read(start, stop).astype(np.float32) for _, tensor in (self.a, self.b))
        for i, layer in enumerate(range(start, stop)):
            for j, part in enumerate(self.entry.layers[layer]):
                at = (i, j) if self.entry.parts else (i,)
                low = self.a[0].layers[layer][j].write(a[at])
                high = self.b[0].layers[layer][j].write(b[at])
                result[at] += self.scale * part.read(high @ low)
        return result
