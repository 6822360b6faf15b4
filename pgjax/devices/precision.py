"""Dtypes that suit a device, for the dtypes that a config leaves open with `auto`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

AUTO = "auto"


@dataclasses.dataclass(frozen=True)
class Precision:
    """Dtypes of the two towers' arithmetic and of frozen parameters."""

    img: str  # compute dtype of the image tower
    llm: str  # compute dtype of the decoder
    frozen: str  # storage dtype of frozen parameters


CPU = Precision("float32", "float32", "bfloat16")
BFLOAT16 = Precision("bfloat16", "bfloat16", "bfloat16")
# GPUs before Ampere have no bfloat16. The decoder's residual stream overflows float16, so that only
# the image tower computes in it.
FLOAT16 = Precision("float16", "float32", "float16")


def precision_here() -> Precision:
    """Returns the dtypes that suit this machine's devices."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return CPU
    capability = getattr(device, "compute_capability", None)
    if device.platform == "gpu" and capability and float(capability) < 8.0:
        return FLOAT16
    return BFLOAT16


def resolved(config: Mapping[str, Any], precision: Precision | None = None) -> dict[str, Any]:
    """Returns a config with a dtype for each `auto`.

    Args:
      config: has the section `model`, and `frozen_dtype` if it is a training config.
      precision: dtypes for `auto`; None for those that suit this machine.
    """
    p = precision or precision_here()
    model = {**config["model"]}
    for key, dtype in (("img_dtype", p.img), ("llm_dtype", p.llm)):
        if model.get(key) == AUTO:
            model[key] = dtype
    frozen = config.get("frozen_dtype")
    return {**config, "model": model} | ({"frozen_dtype": p.frozen} if frozen == AUTO else {})
