"""Accelerators that a run can be planned for.

Memory is that of the makers' data sheets, in 10⁹ bytes, which is a little less than the drivers
report: NVIDIA's for the GPUs, and cloud.google.com/tpu/docs for the TPUs (per device as JAX counts
them: a core up to v3, a chip after).
"""

import dataclasses
import difflib

import jax

from pgjax.errors import UserError
from pgjax.inference.memory import free_host_bytes
from pgjax.inference.precision import BFLOAT16, FLOAT16, Precision, precision_here

USABLE = 0.95  # of it; the rest is for the driver and for gaps between buffers


@dataclasses.dataclass(frozen=True)
class Device:
    """A device to plan for: memory that a program can use, its precision, and its host's memory."""

    name: str
    usable_bytes: int
    precision: Precision
    host_bytes: int | None = None  # where it is known


def _gpu(gigabytes: float, *, bfloat16: bool = True, host: float | None = None) -> tuple:
    return gigabytes, BFLOAT16 if bfloat16 else FLOAT16, host


# name: (10⁹ bytes, precision, 10⁹ bytes of its host)
DEVICES = {
    "p100": _gpu(16, bfloat16=False),
    "v100-16": _gpu(16, bfloat16=False),
    "v100-32": _gpu(32, bfloat16=False),
    "t4": _gpu(16, bfloat16=False, host=12.7),  # the host is that of Colab's free machine
    "l4": _gpu(24),
    "a10": _gpu(24),
    "rtx3090": _gpu(24),
    "rtx4090": _gpu(24),
    "a100-40": _gpu(40),
    "l40s": _gpu(48),
    "a100-80": _gpu(80),
    "h100": _gpu(80),
    "h200": _gpu(141),
    "b200": _gpu(180),
    "v2": _gpu(8),
    "v3": _gpu(16),
    "v4": _gpu(32),
    "v5e": _gpu(16),
    "v5p": _gpu(95),
    "v6e": _gpu(32),
}


def get_device(name: str) -> Device:
    """A device by name.

    Raises:
      UserError: it is not in the table.
    """
    if name not in DEVICES:
        near = difflib.get_close_matches(name, DEVICES, 1)
        hint = f"did you mean {near[0]!r}? There are" if near else "there are"
        raise UserError(f"--device {name!r} is unknown; {hint} {', '.join(DEVICES)}.")
    memory, precision, host = DEVICES[name]
    return Device(name, int(USABLE * memory * 1e9), precision, host and int(host * 1e9))


def this_device() -> Device:
    """One of this machine's; a CPU "device" may use what is free of the host's memory."""
    device, host = jax.local_devices()[0], free_host_bytes()
    stats = device.memory_stats()
    limit = host // jax.local_device_count()
    if device.platform != "cpu" and stats and "bytes_limit" in stats:
        limit = stats["bytes_limit"]
    return Device(device.device_kind, limit, precision_here(), host)
