"""Opens any checkpoint for answering: `pgjax.load`."""

import os
import pathlib
from collections.abc import Mapping

from pgjax.checkpoints.formats import Checkpoint, open_checkpoint
from pgjax.config import RunConfig, parse_config
from pgjax.devices.precision import AUTO
from pgjax.errors import UserError
from pgjax.inference.model import Model
from pgjax.loading.model_context import for_answering, open_model_context, open_tokenizer
from pgjax.loading.parameters import open_run, place_checkpoint
from pgjax.loading.run_directory import is_run, read_run
from pgjax.loading.storage import answering_dtypes, with_quantized
from pgjax.models.quantized import check_kind
from pgjax.models.variants import float_dtype

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
    """Loads a checkpoint, ready to be prompted.

    Args:
      source: a released name (`mix-224`, see `pgjax list checkpoints`), `tiny`, the path of an
        `.npz`, of a Hugging Face folder or of an adapter of peft, or a run directory.
      quantize: int8 or int4 for the decoder's matrices in 8 or 4 bits, or nf4, the 4-bit kind that
        qlora trains on; they are quantized layer by layer as they are read.
      quantize_images: whether the image tower's matrices are quantized as well.
      res: the image size in pixels, where it is not to be that of the checkpoint; position
        embeddings are then resampled.
      dtype: float32, bfloat16 or float16 for the matrices; None for that of the file. On a CPU a
        bfloat16 embedding is kept in float32.
      tokenizer: the path of a `tokenizer.model`; None for the one that fits.
      mesh: sizes of the axes `data` and `model`, -1 for what is left; None for all devices under
        `data`. Every device holds all parameters, or its part of them along `model`.
      base: the source that an adapter of peft goes on top of; None for the one that it names.

    Raises:
      UserError: the source is not found or not readable, or its parts do not go together.
    """
    if quantize:
        check_kind(quantize)
    elif quantize_images:
        raise UserError("quantize_images says what, and quantize says how: int8, int4 or nf4.")
    if dtype:
        float_dtype(dtype, "dtype")
    source = os.fspath(source)
    path = pathlib.Path(source).expanduser()
    if path.is_dir() and is_run(path):
        if res or tokenizer or base:
            raise UserError(
                f"{source} is a run directory, which has its own res, tokenizer and base."
            )
        trained_on = read_run(path).config.quantize
        if quantize and trained_on and quantize != trained_on:
            raise UserError(f"{source} was trained on {trained_on} weights, not {quantize}.")
        return Model(
            *open_run(
                path,
                dtype=dtype,
                mesh=mesh,
                quantize=quantize,
                quantize_images=quantize_images,
                decode_layout=True,
            )
        )
    checkpoint = open_checkpoint(source, base)
    name = tokenizer or _tokenizer_of(checkpoint)
    config = _config(source, checkpoint, name, res or checkpoint.spec["res"])
    context = open_model_context(for_answering(config, mesh), open_tokenizer(name))
    stored = answering_dtypes(context, checkpoint.tensors, dtype)
    stored = with_quantized(stored, context, quantize, quantize_images)
    return Model(context, place_checkpoint(context, checkpoint, stored))


def _tokenizer_of(checkpoint: Checkpoint) -> str:
    return "tiny" if checkpoint.root == "tiny" else str(checkpoint.tokenizer or "gemma")


def _config(source: str, checkpoint: Checkpoint, tokenizer: str, res: int) -> RunConfig:
    """What a run directory would say: sizes, and how images and prompts are prepared."""
    release = checkpoint.release
    prompt = release.prompt if release and "{" not in release.prompt else ""
    return parse_config(
        {
            "model": {
                **checkpoint.spec,
                "res": res,
                "remat": "none",
                "img_dtype": AUTO,
                "llm_dtype": AUTO,
            },
            "tokenizer": tokenizer,
            "init": source,
            "answering": {
                "image": f"decode|resize({res}, antialias=True)|value_range(-1, 1)",
                "prompt": f"strfmt({prompt!r}, 'prefix')" if prompt else "",
                "text": f"for_answering({PROMPT_LENGTH})",
            },
        }
    )
