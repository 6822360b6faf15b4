"""Where a run starts from: the packaged checkpoint, a path, or a released name."""

import dataclasses
import importlib.resources
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from pgjax.checkpoints import hub, huggingface, peft, released
from pgjax.checkpoints.npz import base_of, open_npz
from pgjax.checkpoints.tensors import Tensor
from pgjax.errors import UserError

FOLDER_VARIABLE = "PGJAX_CHECKPOINTS"
PACKAGED = {"tiny": "tiny.npz"}
TOKENIZER = "paligemma_tokenizer.model"
MASK_CODEC = "vae-oid.npz"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    `spec` holds the model's sizes, `tokenizer` the path of a tokenizer that lies beside it (or
    None), `release` what is known of a released one (or None), `root` the name of the whole
    checkpoint that this is, or goes on top of.
    """

    path: pathlib.Path
    tensors: Mapping[str, Tensor]
    spec: dict[str, Any]
    tokenizer: pathlib.Path | None
    release: released.Release | None = None
    root: str = ""


def open_checkpoint(name: str, base: str | None = None) -> Checkpoint:
    """Opens a checkpoint source; only headers are read.

    Args:
      name: `tiny` (ships with pgjax), the path of an `.npz`, of a Hugging Face folder or of an
        adapter of peft, or a released name such as `pt-224` or `ft-vqav2-448.bf16`.
      base: the source that an adapter goes on top of; None for the one that it names.

    Raises:
      UserError: it is not found, or not readable; the message says where it looked.
    """
    path = find(name)
    release = released.get(name)
    if path.is_dir() and peft.is_adapter(path):
        below = open_checkpoint(base or _base_of_adapter(path))
        if "lora" in below.spec:
            raise UserError(f"{path} goes on top of another adapter; merge that one first.")
        tensors, lora = peft.open_adapter(path, below.spec)
        spec = {**below.spec, "lora": lora}
        return dataclasses.replace(
            below, path=path, tensors={**below.tensors, **tensors}, spec=spec
        )
    if base:
        raise UserError(f"{name} is no adapter of peft, so it has no base to go on top of.")
    if path.is_dir():
        tensors, spec = huggingface.open_folder(path)
        beside = path / "tokenizer.model"
    elif base := base_of(path):
        below = open_checkpoint(base)
        return dataclasses.replace(below, path=path, tensors={**below.tensors, **open_npz(path)})
    else:
        tensors = open_npz(path)
        spec = spec_from_shapes({k: x.shape for k, x in tensors.items()}, path)
        beside = path.parent / TOKENIZER
    return Checkpoint(path, tensors, spec, beside if beside.exists() else None, release, name)


def _base_of_adapter(folder: pathlib.Path) -> str:
    """The source that `base_model_name_or_path` stands for."""
    config = peft.read_config(folder)
    name = config.get("base_model_name_or_path") or ""
    release = released.of_repo(name, config.get("revision"))
    if release is None and not (name and (name in PACKAGED or pathlib.Path(name).exists())):
        raise UserError(
            f"{folder / peft.CONFIG}: base_model_name_or_path {name!r} is neither a path that "
            "exists nor a released checkpoint; give the base (base=, or --base)."
        )
    return release.name if release else name


def find(name: str) -> pathlib.Path:
    """The file or folder that a checkpoint source stands for.

    A released name is looked for in the folder that $PGJAX_CHECKPOINTS names, then downloaded.

    Raises:
      UserError: nothing is there; the message says where it looked.
    """
    if name in PACKAGED:
        return _packaged(PACKAGED[name])
    path = pathlib.Path(name).expanduser()
    if path.exists():
        return path
    release = released.get(name)
    if release is None:
        if path.suffix == ".npz" or len(path.parts) > 1:
            raise UserError(f"Checkpoint {name} does not exist.")
        raise UserError(
            f"Checkpoint {name!r} is neither a path nor a released name. {released.hint(name)}"
        )
    found = (find_released(file) for file in release.files)
    return next(filter(None, found), None) or hub.download(release)


def find_released(filename: str) -> pathlib.Path | None:
    """A file or folder in the folder that $PGJAX_CHECKPOINTS names, or None."""
    folder = os.environ.get(FOLDER_VARIABLE)
    path = pathlib.Path(folder or "") / filename
    return path if folder and path.exists() else None


def find_tokenizer() -> pathlib.Path:
    """Gemma's tokenizer: from $PGJAX_CHECKPOINTS, else downloaded.

    Raises:
      UserError: neither.
    """
    return find_released(TOKENIZER) or hub.download_tokenizer(TOKENIZER)


def find_mask_codec(tiny: bool) -> pathlib.Path:
    """The mask codec: the packaged one, or the released one from $PGJAX_CHECKPOINTS.

    Raises:
      UserError: the released one is not there.
    """
    if tiny:
        return _packaged("tiny_vae.npz")
    if (path := find_released(MASK_CODEC)) is None:
        raise UserError(
            f"Masks need the codec {MASK_CODEC} of big_vision (gs://big_vision/paligemma/"
            f"{MASK_CODEC}): put it into a folder and set $PGJAX_CHECKPOINTS to it."
        )
    return path


def _packaged(filename: str) -> pathlib.Path:
    return pathlib.Path(str(importlib.resources.files(__package__) / filename))


def spec_from_shapes(shapes: Mapping[str, tuple[int, ...]], path: pathlib.Path) -> dict[str, Any]:
    """The sizes of the model that an `.npz` holds.

    Raises:
      UserError: tensors that say so are missing.
    """
    block = "img/Transformer/encoderblock/"
    try:
        patch_h, patch_w, _, img_width = shapes["img/embedding/kernel"]
        depth, _, heads, _ = shapes[f"{block}MultiHeadDotProductAttention_0/query/kernel"]
        llm_depth, llm_heads, width, head_dim = shapes["llm/layers/attn/q_einsum/w"]
        spec = {
            "res": round(shapes["img/pos_embedding"][1] ** 0.5) * patch_h,
            "img": {
                "width": img_width,
                "depth": depth,
                "mlp_dim": shapes[f"{block}MlpBlock_0/Dense_0/bias"][1],
                "num_heads": heads,
                "patch_size": (patch_h, patch_w),
            },
            "llm": {
                "width": width,
                "depth": llm_depth,
                "mlp_dim": shapes["llm/layers/mlp/linear"][1],
                "num_heads": llm_heads,
                "num_kv_heads": shapes["llm/layers/attn/kv_einsum/w"][2],
                "head_dim": head_dim,
                "vocab_size": shapes["llm/embedder/input_embedding"][0],
                "norm_eps": 1e-6,
            },
        }
    except (KeyError, ValueError) as e:
        raise UserError(
            f"Checkpoint {path} is no PaliGemma: {e} is missing or has another shape; it holds "
            f"{sorted(shapes)[:3]} …"
        ) from None
    if "llm/layers/post_ffw_norm/scale" in shapes:  # PaliGemma 2; the file does not say these
        scale = (width / llm_heads) ** -0.5 if width == 4608 else None
        spec["llm"] |= {
            "post_norms": True, "attn_softcap": 50.0, "final_softcap": 30.0, "query_scale": scale,
        }  # fmt: skip
    return spec
