"""How well a training run uses its devices: memory, and model FLOPs utilisation (MFU)."""

import math
from collections.abc import Mapping

import jax
import numpy as np

from pgjax.console import gib
from pgjax.devices.data_sheets import this_device
from pgjax.training.step_builder import TrainStepBuilder


class DeviceUse:
    """Measures the use of this process's devices by a run; what they do not report is left out.

    Attributes:
      flops: FLOPs that the model needs in a step, over all devices, see `model_flops`.
    """

    def __init__(self, builder: TrainStepBuilder, batch: Mapping[str, np.ndarray]) -> None:
        """Counts the work of a step.

        Args:
          builder: the builder of the run's step.
          batch: this process's part of a batch, for the numbers of images and tokens.
        """
        self.flops = model_flops(builder, batch) * jax.process_count()
        rates = this_device().rates
        self._peak = rates and rates.flops * builder.sharded.mesh.size

    def values(self, seconds: float) -> dict[str, float]:
        """Returns `memory_bytes`, `memory_peak_bytes`, `memory_limit_bytes` and `mfu`.

        Memory is that of the fullest device of this process. `mfu` is the share of the data sheet's
        16-bit FLOP/s that the model's products take.

        Args:
          seconds: the time of a step.
        """
        found: dict[str, float] = {}
        stats = [x for x in (d.memory_stats() for d in jax.local_devices()) if x]
        for key, name in _MEMORY.items():
            if reported := [x[key] for x in stats if key in x]:
                found[name] = float(max(reported))
        if self._peak:
            found["mfu"] = self.flops / seconds / self._peak
        return found


_MEMORY = {
    "bytes_in_use": "memory_bytes",
    "peak_bytes_in_use": "memory_peak_bytes",
    "bytes_limit": "memory_limit_bytes",
}


def describe_use(values: Mapping[str, float]) -> list[str]:
    """Returns what `DeviceUse.values` found, in words such as `MFU 42%`."""
    parts = []
    if "memory_bytes" in values:
        text = f"memory {gib(values['memory_bytes'])}"
        if "memory_peak_bytes" in values:
            text += f", at most {gib(values['memory_peak_bytes'])}"
        if "memory_limit_bytes" in values:
            text += f" of {gib(values['memory_limit_bytes'])}"
        parts.append(text)
    if "mfu" in values:
        parts.append(f"MFU {values['mfu']:.1%}")
    return parts


def model_flops(builder: TrainStepBuilder, batch: Mapping[str, np.ndarray]) -> float:
    """Counts the FLOPs of a step's products; a multiplication and an addition count as two.

    Products are done once forward, once backward where a gradient passes through them, and once
    more for the gradient of a matrix that trains. Recomputation does not count, as usual for MFU
    (PaLM, arXiv:2204.02311, appendix B).

    Args:
      builder: the builder of the step, for the model's sizes and what of it trains.
      batch: arrays `image` [B,…,H,W,3], `text` [B,L] and `mask_loss` [B,L].
    """
    model, trains = builder.sharded.model, builder.multipliers
    img, llm, patches = model.img_config, model.llm_config, model.num_patches
    rows, length = batch["text"].shape
    images = rows * (batch["image"].shape[1] if batch["image"].ndim == 5 else 1)
    sequence = images // rows * patches + length - 1  # the last token is only a target
    # Whether a gradient passes through the tower's layers, its projection, and the decoder's.
    into_tower = any(n.startswith("img/") and not n.startswith("img/head/") for n in trains)
    into_decoder = into_tower or any(not n.startswith("llm/final_norm") for n in trains)

    total = 0.0
    for name, shape in builder.sharded.shapes.items():
        in_tower = name.startswith("img/")
        if not (_is_tower_matrix(name) if in_tower else _is_decoder_matrix(name)):
            continue
        times = 1 + (into_tower if in_tower else into_decoder) + (name in trains)
        tokens = images * patches if in_tower else rows * sequence
        total += 2 * math.prod(shape) * tokens * times
    tower = 4 * img.depth * img.width * images * patches**2
    decoder = 4 * llm.depth * llm.num_heads * llm.head_dim * rows * sequence**2
    total += tower * (3 if into_tower else 1) + decoder * (3 if into_decoder else 1)
    table = 2 * llm.vocab_size * llm.width * float((batch["mask_loss"] > 0).sum())
    return total + table * (2 + ("llm/embedder/input_embedding" in trains))


def _is_tower_matrix(name: str) -> bool:
    return name.endswith("/kernel") or "_lora_" in name


def _is_decoder_matrix(name: str) -> bool:
    return name.startswith("llm/layers/") and not name.endswith("/scale")
