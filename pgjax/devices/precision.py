"""Dtypes that suit a device, for the dtypes that a config leaves open with `auto`."""

import dataclasses
from typing import Any, TypeVar

import jax

AUTO = "auto"
T = TypeVar("T", bound=Any)


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


def resolved(config: T, precision: Precision | None = None) -> T:
    """Returns a config with a dtype for each `auto`.

    Args:
      config: a `pgjax.config.RunConfig`.
      precision: dtypes for `auto`; None for those that suit this machine.
    """
    p = precision or precision_here()
    model: Any = config.model
    for key, dtype in (("img_dtype", p.img), ("llm_dtype", p.llm)):
        if getattr(model, key) == AUTO:
            model = dataclasses.replace(model, **{key: dtype})
    frozen = p.frozen if config.frozen_dtype == AUTO else config.frozen_dtype
    return dataclasses.replace(config, model=model, frozen_dtype=frozen)
