"""How each parameter is stored on the devices: as floats of a dtype, or quantized."""

from collections.abc import Collection, Mapping

from pgjax.checkpoints.tensors import Tensor
from pgjax.loading.model_context import ShardedModel
from pgjax.loading.quantize_on_load import matrix_kinds
from pgjax.models.quantized import KINDS

_FLOAT32 = ("/bias", "/scale")  # biases and norms are small, and enter float32 arithmetic


def storage_dtypes(sharded: ShardedModel, trained: Collection[str]) -> dict[str, str]:
    """How training stores each parameter.

    Args:
      sharded: the model, whose config says the dtypes and the kind of quantization.
      trained: names of the parameters that train.

    Returns:
      A float dtype's name or a kind of quantization (int8, int4, nf4), by parameter.
    """
    config = sharded.config
    quantized = matrix_kinds(
        sharded.shapes, config.get("quantize"), config.get("quantize_images", False)
    )
    frozen, trainable = str(config["frozen_dtype"]), str(config["trainable_dtype"])
    return dict.fromkeys(sharded.shapes, frozen) | quantized | dict.fromkeys(trained, trainable)


def answering_dtypes(
    sharded: ShardedModel, tensors: Mapping[str, Tensor], dtype: str | None
) -> dict[str, str]:
    """How answering stores each parameter of a checkpoint that is not quantized.

    Args:
      sharded: the model.
      tensors: of the checkpoint; they keep their dtypes where `dtype` is None.
      dtype: float32, bfloat16 or float16 for the matrices, or None.
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
    """The same, with what can be quantized stored in `kind`; quantized matrices stay as they are.

    Args:
      stored: a dtype or a kind of quantization, by parameter.
      sharded: the model.
      kind: int8, int4 or nf4; None changes nothing.
      images: whether the image tower's matrices are quantized as well.
    """
    quantized = {name: how for name, how in stored.items() if how in KINDS}
    return stored | matrix_kinds(sharded.shapes, kind, images) | quantized
