"""The storage of each parameter on the devices: a float dtype, or a kind of quantization."""

from collections.abc import Collection, Mapping

from pgjax.checkpoints.tensors import Tensor
from pgjax.loading.model_context import ShardedModel
from pgjax.loading.quantize_on_load import matrix_kinds
from pgjax.models.quantized import KINDS

_FLOAT32 = ("/bias", "/scale")  # biases and norms are small, and are computed with in float32


def storage_dtypes(sharded: ShardedModel, trained: Collection[str]) -> dict[str, str]:
    """The storage of each parameter in a training run.

    Args:
      sharded: the model; its config has the dtypes and the kind of quantization.
      trained: names of the parameters that the run trains, which are never quantized.

    Returns:
      A float dtype or a kind of quantization (int8, int4, nf4), by parameter.
    """
    config = sharded.config
    quantized = matrix_kinds(sharded.shapes, config.quantize, config.quantize_images)
    floats = dict.fromkeys(sharded.shapes, config.frozen_dtype)
    return floats | quantized | dict.fromkeys(trained, config.trainable_dtype)


def answering_dtypes(
    sharded: ShardedModel, tensors: Mapping[str, Tensor], dtype: str | None
) -> dict[str, str]:
    """The dtype of each parameter of a checkpoint for inference without quantization.

    Args:
      sharded: the model.
      tensors: the tensors of the checkpoint, by name.
      dtype: float32, bfloat16 or float16 for the matrices; None keeps the dtypes of the tensors.

    Returns:
      A dtype by parameter. Biases and norms are float32.
    """

    def stored(name: str) -> str:
        if name.endswith(_FLOAT32):
            return "float32"
        tensor = tensors.get(name)
        return dtype or ("float32" if tensor is None else str(tensor.dtype))

    return {name: stored(name) for name in sharded.shapes}


def with_quantized(
    stored: dict[str, str], sharded: ShardedModel, kind: str | None, images: bool
) -> dict[str, str]:
    """Changes the storage of float matrices to a kind of quantization.

    Args:
      stored: a dtype or a kind of quantization, by parameter.
      sharded: the model.
      kind: int8, int4 or nf4; None changes nothing.
      images: whether the image tower's matrices are quantized as well.

    Returns:
      The new storage by parameter. What was quantized before keeps its kind.
    """
    quantized = {name: how for name, how in stored.items() if how in KINDS}
    return stored | matrix_kinds(sharded.shapes, kind, images) | quantized
