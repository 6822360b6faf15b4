"""Dtypes that suit a device, for what a config leaves to it with `auto`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

AUTO = "auto"


@dataclasses.dataclass(frozen=True)
class Precision:
    """Of the image tower's and the decoder's arithmetic, and of parameters that stay frozen."""

    img: str
    llm: str
    frozen: str


CPU = Precision("float32", "float32", "bfloat16")
BFLOAT16 = Precision("bfloat16", "bfloat16", "bfloat16")
# GPUs before Ampere have no bfloat16, and float16 residuals overflow in this decoder; the tower's
# matrices multiply well in it.
FLOAT16 = Precision("float16", "float32", "float16")


def precision_here() -> Precision:
    """What suits this machine's devices."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return CPU
    capability = getattr(device, "compute_capability", None)
    if device.platform == "gpu" and capability and float(capability) < 8.0:
        return FLOAT16
    return BFLOAT16


def resolved(config: Mapping[str, Any], precision: Precision | None = None) -> dict[str, Any]:
    """A config with a dtype for each `auto`.

    Args:
      config: with `model`, and `frozen_dtype` where it is one of training.
      precision: None for this machine's.
    """
    p = precision or precision_here()
    model = {**config["model"]}
    for key, dtype in (("img_dtype", p.img), ("llm_dtype", p.llm)):
        if model.get(key) == AUTO:
            model[key] = dtype
    frozen = config.get("frozen_dtype")
    return {**config, "model": model} | ({"frozen_dtype": p.frozen} if frozen == AUTO else {})
