"""Loads any checkpoint for inference: `pgjax.load`."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from pgjax.checkpoints.formats import Checkpoint, open_checkpoint
from pgjax.config import RunConfig, parse_config
from pgjax.devices.precision import AUTO
from pgjax.errors import UserError
from pgjax.inference.call_checks import checks_call
from pgjax.inference.model import Model
from pgjax.loading.model_context import for_answering, open_model_context, open_tokenizer
from pgjax.loading.parameters import open_run, place_checkpoint
from pgjax.loading.run_directory import is_run, read_run
from pgjax.loading.storage import answering_dtypes, with_quantized
from pgjax.models.quantized import KINDS, check_kind
from pgjax.models.variants import float_dtype

_PROMPT_LENGTH = 512  # tokens of a prompt, at most
_SHORT_DTYPES = {
    **{"bf16": "bfloat16", "fp16": "float16", "f16": "float16", "half": "float16"},
    **{"fp32": "float32", "f32": "float32", "float": "float32"},
}


@checks_call
def load(
    source: str | os.PathLike[str],
    *,
    quantize: str | None = None,
    quantize_images: bool = False,
    res: int | None = None,
    dtype: Any = None,
    tokenizer: str | None = None,
    mesh: Mapping[str, int] | None = None,
    base: str | None = None,
    step: int | str | None = None,
) -> Model:
    """Loads a checkpoint, ready to be prompted.

        model = pgjax.load("mix-224")
        model.generate("bee.jpg", "caption en")

    Args:
      source: a released name such as `mix-224` (`pgjax list checkpoints` shows them), `tiny`, a
        repository of the Hugging Face hub (`user/model`, `user/model@revision`), or a path or URL
        (`hf://`, `gs://`, `s3://`) of an `.npz`, a Hugging Face folder, or a PEFT adapter; or the
        path of a run directory.
      quantize: how the decoder's matrices are stored: int8, int4, or nf4, the 4 bits that QLoRA
        trains on. They are quantized layer by layer as they are read. None for no quantization.
      quantize_images: whether the image tower's matrices are quantized as well.
      res: the image size in pixels; None for that of the checkpoint. Position embeddings are
        resampled to another size.
      dtype: float32, bfloat16 or float16 for the matrices, as text (bf16 and fp16 are understood)
        or as a dtype of NumPy, JAX or PyTorch; None for that of the file. On a CPU a bfloat16
        embedding is stored in float32.
      tokenizer: the path of a `tokenizer.model`; None for the one that fits the checkpoint.
      mesh: sizes of the axes `data` and `model`, such as `{"data": 1, "model": 4}`; -1 takes the
        devices that the other axis leaves. None puts all devices on `data`. Each device holds all
        parameters, or its part of them along `model`.
      base: the source that a PEFT adapter is applied to, or that a run directory started from;
        None for the one that it names.
      step: which checkpoint of a run directory: its step, or `best` for the one that
        `config.keep_best` has kept; None for the newest.

    Returns:
      A `Model` with `generate`, `stream`, `detect` and `segment`.

    Raises:
      UserError: the source is not found or not readable, or its parts do not go together.
    """
    _check_types(source, res=res, mesh=mesh, tokenizer=tokenizer, base=base)
    dtype = _dtype_name(dtype)
    if quantize:
        check_kind(quantize)
    elif quantize_images:
        raise UserError("quantize_images is set, and quantize is not; expected int8, int4 or nf4.")
    if dtype:
        float_dtype(dtype, "dtype")
    source = os.fspath(source)
    path = pathlib.Path(os.path.expanduser(source))
    if is_run(path):
        if res or tokenizer:
            raise UserError(
                f"{source} is a run directory, which sets res and tokenizer itself; leave both out."
            )
        trained_on = read_run(path).config.quantize
        if quantize and trained_on and quantize != trained_on:
            raise UserError(
                f"{source} was trained on {trained_on} weights, not {quantize}; leave quantize out."
            )
        context, params = open_run(
            path,
            dtype=dtype,
            mesh=mesh,
            quantize=quantize,
            quantize_images=quantize_images,
            decode_layout=True,
            base=base,
            step=step,
        )
        return Model(context, params, source)
    if step is not None:
        raise UserError(f"step is {step!r}, but {source} is no run directory; leave it out.")
    checkpoint = open_checkpoint(source, base)
    name = tokenizer or _tokenizer_of(checkpoint)
    config = _config(source, checkpoint, name, res or checkpoint.spec["res"])
    context = open_model_context(for_answering(config, mesh), open_tokenizer(name))
    stored = answering_dtypes(context, checkpoint.tensors, dtype)
    stored = with_quantized(stored, context, quantize, quantize_images)
    return Model(context, place_checkpoint(context, checkpoint, stored), source)


def _dtype_name(dtype: Any) -> str | None:
    """The name of a dtype that is given in any form.

    Raises:
      UserError: it is not one of float32, bfloat16 and float16.
    """
    if dtype is None:
        return None
    text = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", None) or str(dtype)
    name = text.removeprefix("torch.")
    name = _SHORT_DTYPES.get(name, name)
    if name in KINDS:
        raise UserError(
            f"dtype is {name!r}, expected float32, bfloat16 or float16; quantize={name!r} stores "
            "the decoder's matrices in fewer bits."
        )
    float_dtype(name, "dtype")
    return name


def _check_types(source: Any, *, res: Any, mesh: Any, **paths: Any) -> None:
    if not isinstance(source, str | os.PathLike) or not os.fspath(source):
        raise UserError(
            f"source is {source!r}, expected the name of a checkpoint such as 'mix-224', or a path."
        )
    if res is not None and (not isinstance(res, int) or isinstance(res, bool) or res < 1):
        raise UserError(f"res is {res!r}, expected a number of pixels such as 448.")
    if mesh is not None and not isinstance(mesh, Mapping):
        raise UserError(f'mesh is {mesh!r}, expected sizes such as {{"data": 1, "model": 4}}.')
    for name, value in paths.items():
        if value is not None and not isinstance(value, str | os.PathLike):
            raise UserError(f"{name} is {value!r}, expected a name or a path.")


def _tokenizer_of(checkpoint: Checkpoint) -> str:
    return "tiny" if checkpoint.root == "tiny" else str(checkpoint.tokenizer or "gemma")


def _config(source: str, checkpoint: Checkpoint, tokenizer: str, res: int) -> RunConfig:
    """The config that a run directory would hold: sizes, and how prompts are prepared."""
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
                "text": f"for_answering({_PROMPT_LENGTH})",
            },
        }
    )
