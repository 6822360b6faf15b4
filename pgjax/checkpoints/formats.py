"""The formats in which checkpoints are stored, and `open_checkpoint`, which opens any of them.

A format of one's own is a subclass of `CheckpointFormat` with `@CHECKPOINT_FORMATS.register(name)`.
"""

import contextvars
import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from pgjax.checkpoints import huggingface, npz, peft, released
from pgjax.checkpoints.base_checkpoint import BaseRecord, find_base
from pgjax.checkpoints.hf_tokenizer import find_tokenizer
from pgjax.checkpoints.locate import TOKENIZER, find_checkpoint, is_repository
from pgjax.checkpoints.tensors import Tensor
from pgjax.errors import UserError
from pgjax.registry import CHECKPOINT_FORMATS

# The checkpoints that are being opened, each on top of the next.
_OPENING: contextvars.ContextVar[tuple[pathlib.Path, ...]] = contextvars.ContextVar(
    "opening", default=()
)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
      path: its file or folder.
      tensors: by pgjax's names of the parameters, such as `llm/layers/mlp/linear`.
      spec: the sizes of the model, as a config's `model` spells them out: `res`, `img`, `llm`, and
        `lora` where there are adapters.
      tokenizer: the file of a tokenizer that lies beside it, or None.
      release: what is known of a released checkpoint, or None.
      root: the name under which the whole checkpoint was opened: this one, or the one beneath an
        adapter.
    """

    path: pathlib.Path
    tensors: Mapping[str, Tensor]
    spec: dict[str, Any]
    tokenizer: pathlib.Path | None = None
    release: released.Release | None = None
    root: str = ""


class CheckpointFormat:
    """A format of checkpoints; formats registered last are asked first whether a path is theirs."""

    takes_base: bool = False  # whether `open` may be given the name of the checkpoint beneath

    @classmethod
    def matches(cls, path: pathlib.Path) -> bool:
        """Returns whether a file or folder, which exists, is of this format."""
        raise NotImplementedError

    @classmethod
    def open(cls, path: pathlib.Path, base: str | None = None) -> Checkpoint:
        """Opens a checkpoint; only headers are read.

        Args:
          path: a file or folder that `matches`.
          base: the name of the checkpoint beneath, where `takes_base`; None for the one that the
            files name.

        Raises:
          UserError: it cannot be read.
        """
        raise NotImplementedError


def open_checkpoint(name: str, base: str | None = None) -> Checkpoint:
    """Opens a checkpoint; only headers are read.

    Args:
      name: `tiny` (ships with pgjax), a path or URL of any of `CHECKPOINT_FORMATS`, a released
        name such as `pt-224` or `ft-vqav2-448.bf16`, or a repository of the Hugging Face hub.
      base: the checkpoint beneath an adapter; None for the one that the adapter names.

    Raises:
      UserError: it is not found, or cannot be read; the message says where it was looked for.
    """
    path = find_checkpoint(name)
    above = _OPENING.get()
    if path.resolve() in above:
        raise UserError(f"Checkpoint {path} goes on top of itself.")
    token = _OPENING.set((*above, path.resolve()))
    try:
        found = _open(name, path, base)
    finally:
        _OPENING.reset(token)
    if found.root:
        return found
    return dataclasses.replace(found, root=name, release=released.get(name))


def _open(name: str, path: pathlib.Path, base: str | None) -> Checkpoint:
    """Opens a checkpoint by its format."""
    for kind in reversed(list(CHECKPOINT_FORMATS.values())):
        if kind.matches(path):
            break
    else:
        raise UserError(
            f"{path} is not of a known checkpoint format ({', '.join(CHECKPOINT_FORMATS)}); a "
            f"Hugging Face folder has a {huggingface.CONFIG}."
        )
    if base and not kind.takes_base:
        raise UserError(f"{name} is no adapter of peft, so it has no base to go on top of.")
    return kind.open(path, base) if base else kind.open(path)


@CHECKPOINT_FORMATS.register("npz")
class Npz(CheckpointFormat):
    """big_vision's format: a file with every parameter, or with those that replace another's."""

    @classmethod
    def matches(cls, path: pathlib.Path) -> bool:
        """Whether it is a file."""
        return path.is_file()

    @classmethod
    def open(cls, path: pathlib.Path, base: str | None = None) -> Checkpoint:
        """Opens the file, and the checkpoint that it names as its base."""
        if beneath := npz.base_of(path):
            below = open_checkpoint(find_base(beneath, path))
            tensors = {**below.tensors, **npz.open_npz(path)}
            spec = {**below.spec, "llm": {**below.spec["llm"], **npz.spec_of(path)}}
            return dataclasses.replace(below, path=path, tensors=tensors, spec=spec)
        tensors = npz.open_npz(path)
        spec = spec_from_shapes({name: x.shape for name, x in tensors.items()}, path)
        spec["llm"] |= npz.spec_of(path)
        return Checkpoint(path, tensors, spec, _existing(path.parent / TOKENIZER))


@CHECKPOINT_FORMATS.register("huggingface")
class HuggingFace(CheckpointFormat):
    """A folder of transformers: `config.json` and safetensors."""

    @classmethod
    def matches(cls, path: pathlib.Path) -> bool:
        """Whether it is a folder with a `config.json`."""
        return (path / huggingface.CONFIG).is_file()

    @classmethod
    def open(cls, path: pathlib.Path, base: str | None = None) -> Checkpoint:
        """Opens the folder."""
        tensors, spec = huggingface.open_folder(path)
        return Checkpoint(path, tensors, spec, find_tokenizer(path))


@CHECKPOINT_FORMATS.register("peft")
class Peft(CheckpointFormat):
    """A folder of peft with LoRA adapters, on top of another checkpoint."""

    takes_base = True

    @classmethod
    def matches(cls, path: pathlib.Path) -> bool:
        """Whether it is a folder with an `adapter_config.json`."""
        return peft.is_adapter(path)

    @classmethod
    def open(cls, path: pathlib.Path, base: str | None = None) -> Checkpoint:
        """Opens the adapters and the checkpoint beneath."""
        below = open_checkpoint(base or _base_of_adapter(path))
        if "lora" in below.spec:
            raise UserError(f"{path} goes on top of another adapter; merge that one first.")
        tensors, lora = peft.open_adapter(path, below.spec, below.tensors)
        return dataclasses.replace(
            below,
            path=path,
            tensors={**below.tensors, **tensors},
            spec={**below.spec, "lora": lora},
        )


def _existing(path: pathlib.Path) -> pathlib.Path | None:
    return path if path.exists() else None


def _base_of_adapter(folder: pathlib.Path) -> str:
    """The name of the checkpoint that `base_model_name_or_path` stands for."""
    config = peft.read_config(folder)
    name, revision = config.get("base_model_name_or_path") or "", config.get("revision")
    if release := released.of_repo(name, revision):
        return release.name
    try:
        found = find_base(BaseRecord(name), folder) if name else ""
    except UserError:
        found = ""
    if not found:
        raise UserError(
            f"{folder / peft.CONFIG}: base_model_name_or_path {name!r} is neither a path that "
            "exists nor a released checkpoint; give the base (base=, or --base)."
        )
    return f"{name}@{revision}" if revision and found == name and is_repository(name) else found


def spec_from_shapes(shapes: Mapping[str, tuple[int, ...]], path: pathlib.Path) -> dict[str, Any]:
    """Returns the sizes of the model that an `.npz` holds, as in `Checkpoint.spec`.

    Args:
      shapes: of all parameters, by name.
      path: of the file, for messages.

    Raises:
      UserError: a parameter that says a size is missing, or has another number of axes.
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
            f"{sorted(shapes)[:3]} and more."
        ) from None
    if "llm/layers/post_ffw_norm/scale" in shapes:  # PaliGemma 2; the file does not say these
        scale = (width / llm_heads) ** -0.5 if width == 4608 else None
        spec["llm"] |= {
            "post_norms": True, "attn_softcap": 50.0, "query_scale": scale,
            # Released transfers were tuned without it.
            "final_softcap": 0.0 if re.match(r"paligemma2-\w+-ft-", path.name) else 30.0,
        }  # fmt: skip
    return spec
