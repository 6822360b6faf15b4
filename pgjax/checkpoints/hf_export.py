"""Writes Hugging Face folders that transformers loads without the network."""

import dataclasses
import json
import math
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Float

from pgjax.checkpoints.hf_layout import PADDING, Entry, Part, key_table
from pgjax.checkpoints.huggingface import CONFIG, INDEX, WEIGHTS
from pgjax.checkpoints.safetensors_file import save_safetensors
from pgjax.checkpoints.tensors import Tensor
from pgjax.errors import UserError

_ROWS_AT_A_TIME = 4096  # the rows of the embedding that are summed at a time
SHARD_BYTES = 2 * 2**30  # the most that a shard holds, and so the host memory that writing takes
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def write_folder(
    folder: pathlib.Path,
    tensors: Mapping[str, Tensor],
    spec: Mapping[str, Any],
    *,
    dtype: str | None = None,
    tokenizer: bytes | None = None,
) -> None:
    """Writes weights, configuration, tokenizer and processor.

    The folder gets its name only when it is complete.

    Args:
      folder: the folder to write, which must not exist.
      tensors: the parameters by pgjax's names; they are read one layer at a time.
      spec: the model's explicit sizes (see `pgjax.models.paligemma.explicit`).
      dtype: float32, float16 or bfloat16, or None for the dtype of the tensors.
      tokenizer: a serialized SentencePiece model with the location and segmentation tokens, or
        None to write neither tokenizer nor processor.

    Raises:
      UserError: the folder exists, or cannot be written.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already, expected a new folder.")
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        name = dtype or str(tensors["llm/final_norm/scale"].dtype)
        _write_weights(part, tensors, spec, np.dtype(DTYPES[name]))
        _write_json(part / CONFIG, model_config(spec, name))
        _write_json(part / "generation_config.json", _generation_config(spec))
        if tokenizer is not None:
            _write_processor(part, spec, tokenizer)
        part.replace(folder)
    except OSError as e:
        shutil.rmtree(part, ignore_errors=True)
        raise UserError(f"{folder} could not be written ({e}).") from None


def _write_weights(
    folder: pathlib.Path, tensors: Mapping[str, Tensor], spec: Mapping[str, Any], dtype: np.dtype
) -> None:
    shards = _shards(spec, dtype)
    weight_map: dict[str, str] = {}
    total = 0
    for n, shard in enumerate(shards, 1):
        single = len(shards) == 1
        file = WEIGHTS if single else f"model-{n:05d}-of-{len(shards):05d}.safetensors"
        arrays = {
            piece.part.hf_name: _converted(piece.part, piece.read(tensors), dtype)
            for piece in shard
        }
        save_safetensors(folder / file, arrays)
        weight_map |= dict.fromkeys(arrays, file)
        total += sum(x.nbytes for x in arrays.values())
    if len(shards) > 1:
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


@dataclasses.dataclass(frozen=True)
class _Piece:
    """The piece of a parameter that is one tensor at Hugging Face."""

    entry: Entry
    layer: int
    index: int  # among the parts of the layer

    @property
    def part(self) -> Part:
        return self.entry.layers[self.layer][self.index]

    def read(self, tensors: Mapping[str, Tensor]) -> np.ndarray:
        """Reads the piece, with pgjax's axes."""
        tensor = tensors[self.entry.name]
        x = tensor.read(self.layer, self.layer + 1)[0] if self.entry.stacked else tensor.read()
        return x[self.index] if self.entry.split else x


def _shards(spec: Mapping[str, Any], dtype: np.dtype) -> list[list[_Piece]]:
    """Distributes the pieces of all parameters over files of up to `SHARD_BYTES`."""
    shards: list[list[_Piece]] = []
    filled = SHARD_BYTES
    for entry in key_table(spec):
        for i, layer in enumerate(entry.layers):
            for j, part in enumerate(layer):
                size = math.prod(part.hf_shape) * dtype.itemsize
                if filled + size > SHARD_BYTES:
                    shards, filled = [*shards, []], 0
                shards[-1].append(_Piece(entry, i, j))
                filled += size
    return shards


def _converted(part: Part, x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    x = part.to_hf(x.astype(dtype, copy=False))
    return _with_padding(x) if part.is_embedding else x


def _with_padding(x: Float[np.ndarray, "v d"]) -> Float[np.ndarray, "v_padded d"]:
    """Appends the rows that the released files have: one for `<image>`, and then unused ones.

    Each of them is the mean of all rows, so that its logit is the mean of all logits: it is never
    the largest, and by Jensen's inequality all of them together have at most PADDING/V of the
    probability, 0.025 % for PaliGemma. Rows of zeros would have the logit 0, above those of most
    tokens. The conversions at Hugging Face draw them closely around the mean as well.
    """
    steps = range(0, x.shape[0], _ROWS_AT_A_TIME)
    total = sum(x[i : i + _ROWS_AT_A_TIME].astype(np.float64).sum(axis=0) for i in steps)
    row = (total / x.shape[0]).astype(x.dtype)
    return np.concatenate([x, np.broadcast_to(row, (PADDING, x.shape[1]))])


def model_config(spec: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Returns the `config.json` of a model, which `spec_from_config` reads back.

    Args:
      spec: the model's explicit sizes.
      dtype: the dtype of the weights, such as `bfloat16`.
    """
    img, llm = spec["img"], spec["llm"]
    patch = img["patch_size"][0]
    tokens = (spec["res"] // patch) ** 2
    text = {
        "model_type": "gemma",
        "hidden_size": llm["width"],
        "intermediate_size": llm["mlp_dim"],
        "num_hidden_layers": llm["depth"],
        "num_attention_heads": llm["num_heads"],
        "num_key_value_heads": llm["num_kv_heads"],
        "head_dim": llm["head_dim"],
        "rms_norm_eps": llm["norm_eps"],
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "vocab_size": llm["vocab_size"] + PADDING,
        "num_image_tokens": tokens,
        "torch_dtype": dtype,
    }
    if llm.get("post_norms"):
        scale = llm["query_scale"] or llm["head_dim"] ** -0.5
        text |= {
            "model_type": "gemma2",
            "attn_logit_softcapping": llm["attn_softcap"] or None,
            "final_logit_softcapping": llm["final_softcap"] or None,
            "query_pre_attn_scalar": round(scale**-2),
            # Every layer of PaliGemma 2 has full attention, unlike in Gemma 2.
            "layer_types": ["full_attention"] * llm["depth"],
        }
    return {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "model_type": "paligemma",
        **_SPECIAL_IDS,
        "image_token_index": llm["vocab_size"],
        "hidden_size": llm["width"],
        "projection_dim": llm["width"],
        "torch_dtype": dtype,
        "text_config": text,
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": img["width"],
            "intermediate_size": img["mlp_dim"],
            "num_hidden_layers": img["depth"],
            "num_attention_heads": img["num_heads"],
            "patch_size": patch,
            "image_size": spec["res"],
            "num_image_tokens": tokens,
            "projection_dim": llm["width"],
            "vision_use_head": False,
        },
    }


def _generation_config(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings of `generate`, which never gives an id outside of the vocabulary."""
    vocab = spec["llm"]["vocab_size"]
    return {**_SPECIAL_IDS, "suppress_tokens": list(range(vocab, vocab + PADDING))}


_SPECIAL_IDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}


def _write_processor(folder: pathlib.Path, spec: Mapping[str, Any], tokenizer: bytes) -> None:
    res, patch = spec["res"], spec["img"]["patch_size"][0]
    (folder / "tokenizer.model").write_bytes(tokenizer)
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "GemmaTokenizer",
            "processor_class": "PaliGemmaProcessor",
            "add_bos_token": True,
            "add_eos_token": False,
            **{f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")},
        },
    )
    _write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "SiglipImageProcessor",
            "processor_class": "PaliGemmaProcessor",
            "image_seq_length": (res // patch) ** 2,
            "size": {"height": res, "width": res},
            "do_resize": True,
            "resample": 2,  # bilinear, as in training with pgjax
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        },
    )


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
