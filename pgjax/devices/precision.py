"""Dtypes that suit a device, for what a config leaves to it with `auto`."""

import dataclasses
from typing import Any, TypeVar

import jax

AUTO = "auto"
T = TypeVar("T", bound=Any)


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


def resolved(config: T, precision: Precision | None = None) -> T:
    """A config with a dtype for each `auto`.

    Args:
      config: a `pgjax.config.RunConfig`.
      precision: what `auto` stands for; None for what suits this machine.
    """
    p = precision or precision_here()
    model: Any = config.model
    for key, dtype in (("img_dtype", p.img), ("llm_dtype", p.llm)):
        if getattr(model, key) == AUTO:
            model = dataclasses.replace(model, **{key: dtype})
    frozen = p.frozen if config.frozen_dtype == AUTO else config.frozen_dtype
    return dataclasses.replace(config, model=model, frozen_dtype=frozen)
