"""Opens any checkpoint for answering: `pgjax.load`."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from pgjax import trees
from pgjax.checkpoints.load import load as load_tensors
from pgjax.checkpoints.load import resampled
from pgjax.checkpoints.peft import is_adapter
from pgjax.checkpoints.sources import Checkpoint, open_checkpoint
from pgjax.devices.precision import AUTO
from pgjax.errors import UserError
from pgjax.inference.arrange import arrange
from pgjax.inference.model import Model
from pgjax.inference.session import (
    CONFIG_FILE,
    Flat,
    Session,
    is_run,
    on_mesh,
    open_run,
    open_session,
    open_tokenizer,
)

PROMPT_LENGTH = 512  # tokens of a prompt, at most


def load(
    source: str | os.PathLike,
    *,
    quantize: str | None = None,
    quantize_images: bool = False,
    res: int | None = None,
    dtype: str | None = None,
    tokenizer: str | None = None,
    mesh: Mapping[str, int] | None = None,
    base: str | None = None,
) -> Model:
    """Loads a checkpoint, ready to be asked.

    Args:
      source: a released name (`mix-224`, see `predict --list`), `tiny`, the path of an `.npz` or
        of a Hugging Face folder, of an adapter of peft, or a run directory.
      quantize: int8 or int4, for the decoder's matrices in 8 or 4 bits, or nf4, which is that of
        qlora; they are quantized layer by layer as they are read.
      quantize_images: the image tower's matrices as well.
      res: image size in pixels, where it is not to be that of the checkpoint; position
        embeddings are resampled then.
      dtype: of the matrices: float32, bfloat16 or float16; None for that of the file. On a CPU a
        bfloat16 embedding is kept in float32.
      tokenizer: path of a `tokenizer.model`; None for the one that fits.
      mesh: sizes of the axes `data` and `model`, -1 for what is left; None for all devices under
        `data`. Every device holds all parameters, or its part of them along `model`.
      base: the source that an adapter of peft goes on top of; None for the one that it names.

    Raises:
      UserError: not found, not readable, or parts that do not go together.
    """
    if quantize_images and not quantize:
        raise UserError("quantize_images says what, and quantize says how: int8, int4 or nf4.")
    source = os.fspath(source)
    path = pathlib.Path(source).expanduser()
    if path.is_dir() and is_run(path):
        if res or tokenizer or base:
            raise UserError(
                f"{source} is a run directory, which has its own res, tokenizer and base."
            )
        session, params = open_run(path, dtype, mesh)
        trained_on = session.config.get("quantize")
        if quantize and trained_on and quantize != trained_on:
            raise UserError(f"{source} was trained on {trained_on} weights, not {quantize}.")
        layers = arrange(params, kind=quantize, images=quantize_images)
        return Model(session, params | layers)
    if path.is_dir() and not (path / CONFIG_FILE).exists() and not is_adapter(path):
        raise UserError(
            f"{source} is neither a run directory nor a Hugging Face folder: no {CONFIG_FILE}."
        )
    checkpoint = open_checkpoint(source, base)
    name = tokenizer or _tokenizer_of(checkpoint)
    config = _config(source, checkpoint, name, res or checkpoint.spec["res"])
    config |= on_mesh(mesh)
    session = open_session(config, open_tokenizer(name))
    return Model(session, _params(session, checkpoint, dtype, quantize, quantize_images))


def _tokenizer_of(checkpoint: Checkpoint) -> str:
    return "tiny" if checkpoint.root == "tiny" else str(checkpoint.tokenizer or "gemma")


def _params(
    session: Session,
    checkpoint: Checkpoint,
    dtype: str | None,
    quantize: str | None,
    images: bool,
) -> Flat:
    targets = {
        name: jax.ShapeDtypeStruct(
            shape, stored_dtype(checkpoint, name, dtype), sharding=session.shardings[name]
        )
        for name, shape in session.shapes.items()
    }
    what = f"Checkpoint {checkpoint.path}"
    tensors = dict(resampled(checkpoint.tensors, targets, what))
    trees.check_same(targets, tensors, what=what)
    layers = arrange(tensors, targets, kind=quantize, images=images)
    return layers | load_tensors(tensors, {name: targets[name] for name in tensors}, what=what)


def stored_dtype(checkpoint: Checkpoint, name: str, dtype: str | None) -> Any:
    """Biases and norms are small, and enter float32 arithmetic."""
    if name.endswith(("/bias", "/scale")):
        return jnp.float32
    tensor = checkpoint.tensors.get(name)
    return dtype or (jnp.float32 if tensor is None else tensor.dtype)


def _config(source: str, checkpoint: Checkpoint, tokenizer: str, res: int) -> dict[str, Any]:
    """What a run directory would say: sizes, and how images and prompts are prepared."""
    release = checkpoint.release
    prompt = release.prompt if release and "{" not in release.prompt else ""
    return {
        "model": {
            **checkpoint.spec,
            "res": res,
            "remat": "none",
            "img_dtype": AUTO,
            "llm_dtype": AUTO,
        },
        "tokenizer": tokenizer,
        "init": source,
        "seed": 0,
        "answering": {
            "image": f"decode|resize({res}, antialias=True)|value_range(-1, 1)",
            "prompt": f"strfmt({prompt!r}, 'prefix')" if prompt else "",
            "text": f"for_answering({PROMPT_LENGTH})",
        },
    }
