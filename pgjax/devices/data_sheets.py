"""Accelerators that a run can be planned for, by their data sheets.

The figures are the makers': NVIDIA's data sheets and architecture papers for the GPUs, and
cloud.google.com/tpu/docs for the TPUs, per device as JAX counts them (a core up to v3, a chip
after). Memory is in 10⁹ bytes, a little less than the drivers report. FLOP/s are dense ones with
float32 sums. Rates of links are in one direction, for all links of a device together.
"""

import dataclasses
import difflib
import math
import re
from typing import Any

import jax

from pgjax.devices.host import free_host_bytes
from pgjax.devices.precision import BFLOAT16, FLOAT16, Precision, precision_here
from pgjax.errors import UserError

USABLE = 0.95  # share of the memory; the rest is for the driver and for gaps between buffers
_PCIE3, _PCIE4, _PCIE5 = 15.75e9, 31.5e9, 63e9  # bytes/s of 16 lanes


@dataclasses.dataclass(frozen=True)
class Rates:
    """The most that a device does in a second."""

    flops: float  # FLOP/s of products of 16-bit numbers
    flops32: float  # FLOP/s of float32 products, which JAX does in TF32, or bfloat16 on a TPU
    memory: float  # bytes/s of main memory
    link: float  # bytes/s sent to the devices that its links reach
    linked: int | None = None  # number of devices that links join, itself among them; None for all
    network: float | None = None  # bytes/s sent to other devices; None where machines differ

    def between(self, devices: int) -> float | None:
        """Returns the bytes/s that a device sends among this many devices, None if not known."""
        return self.link if not self.linked or devices <= self.linked else self.network


@dataclasses.dataclass(frozen=True)
class Gpu:
    """Properties of a GPU that its compiler needs, as XLA's `GpuDeviceInfoProto` defines them."""

    description: str  # the driver's name of the device
    capability: tuple[int, int]  # compute capability
    cores: int  # streaming multiprocessors
    fpus: int  # float32 units of a multiprocessor
    threads: int  # threads of a multiprocessor
    shared: int  # KiB of shared memory of a multiprocessor
    l2: float  # MiB of level-2 cache
    clock: float  # GHz
    memory_size: int | None = None  # bytes that the driver reports, where they are known


@dataclasses.dataclass(frozen=True)
class Tpu:
    """The name and form of a TPU's topologies, as libtpu defines them."""

    version: str
    axes: int  # dimensions of a pod's torus or mesh
    cores: int = 1  # devices of a chip


@dataclasses.dataclass(frozen=True)
class Device:
    """A device to plan for; unknown properties are None."""

    name: str
    usable_bytes: int  # device memory that a program may use
    precision: Precision  # dtypes for `auto`
    host_bytes: int | None = None  # main memory of the machine
    rates: Rates | None = None
    target: Gpu | Tpu | None = None  # description for the device's compiler
    memory_bytes: int | None = None  # device memory by the data sheet


@dataclasses.dataclass(frozen=True)
class _Row:
    kind: str  # a regex of whole words in `jax.Device.device_kind`
    gigabytes: float  # 10⁹ bytes of device memory
    rates: Rates
    target: Gpu | Tpu | None
    precision: Precision = BFLOAT16
    host: float | None = None  # 10⁹ bytes of main memory


def _nvlink(link: float, network: float) -> dict[str, Any]:
    """Returns the rates of eight GPUs joined by NVLink, and of the maker's own network of them."""
    return {"link": link, "linked": 8, "network": network}


def _geforce(
    model: str,
    gigabytes: float,
    memory: float,
    link: float,
    capability: tuple[int, int],
    cores: int,
    l2: float,
    clock: float,
) -> _Row:
    """Returns a GeForce RTX, of which NVIDIA's architecture papers give these figures.

    A multiprocessor does 512 FLOP of 16-bit products with float32 sums in a clock, and half as many
    in TF32; before Ampere, which has no TF32, 128 in float32.

    Args:
      model: such as `4080`; not the Ti, SUPER, D or laptop GPU of that number.
      gigabytes: 10⁹ bytes of device memory.
      memory: bytes/s of it.
      link: bytes/s of PCI Express.
      capability: compute capability.
      cores: streaming multiprocessors.
      l2: MiB of level-2 cache.
      clock: the boost clock in GHz.
    """
    ampere = capability >= (8, 0)
    flops = cores * clock * 1e9 * 512
    rates = Rates(flops, flops / (2 if ampere else 4), memory, link)
    fpus, threads, shared = (128, 1536, 100) if ampere else (64, 1024, 64)
    gpu = Gpu(
        f"NVIDIA GeForce RTX {model}", capability, cores, fpus, threads, shared, l2, clock
    )  # fmt: skip
    kind = f"RTX {model}(?! Ti| SUPER| D| Laptop)"
    return _Row(kind, gigabytes, rates, gpu, BFLOAT16 if ampere else FLOAT16)


DEVICES = {
    "p100": _Row(
        "P100", 16, Rates(18.7e12, 9.3e12, 732e9, _PCIE3),
        Gpu("Tesla P100-PCIE-16GB", (6, 0), 56, 64, 2048, 64, 4, 1.3285, 17_066_885_120), FLOAT16,
    ),
    "v100-16": _Row(
        "V100.*16GB", 16, Rates(125e12, 15.7e12, 900e9, **_nvlink(150e9, 6.25e9)),
        Gpu("Tesla V100-SXM2-16GB", (7, 0), 80, 64, 2048, 96, 6, 1.53, 16_935_682_048), FLOAT16,
    ),
    "v100-32": _Row(
        "V100.*32GB", 32, Rates(125e12, 15.7e12, 900e9, **_nvlink(150e9, 6.25e9)),
        Gpu("Tesla V100-SXM2-32GB", (7, 0), 80, 64, 2048, 96, 6, 1.53), FLOAT16,
    ),
    # The main memory is that of Colab's free machine.
    "t4": _Row(
        "T4", 16, Rates(65e12, 8.1e12, 320e9, _PCIE3),
        Gpu("Tesla T4", (7, 5), 40, 64, 1024, 64, 4, 1.59, 15_835_660_288), FLOAT16, 12.7,
    ),
    "l4": _Row(
        "L4", 24, Rates(121e12, 60e12, 300e9, _PCIE4),
        Gpu("NVIDIA L4", (8, 9), 58, 128, 1536, 100, 48, 2.04),
    ),
    "a10": _Row(
        "A10", 24, Rates(125e12, 62.5e12, 600e9, _PCIE4),
        Gpu("NVIDIA A10", (8, 6), 72, 128, 1536, 100, 6, 1.695),
    ),
    "rtx2080ti": _geforce("2080 Ti", 11, 616e9, _PCIE3, (7, 5), 68, 5.5, 1.545),
    "rtx3060": _geforce("3060", 12, 360e9, _PCIE4, (8, 6), 28, 3, 1.777),
    "rtx3070": _geforce("3070", 8, 448e9, _PCIE4, (8, 6), 46, 4, 1.725),
    "rtx3080": _geforce("3080", 10, 760e9, _PCIE4, (8, 6), 68, 5, 1.71),
    "rtx3090": _geforce("3090", 24, 936e9, _PCIE4, (8, 6), 82, 6, 1.695),
    "rtx4060": _geforce("4060", 8, 272e9, _PCIE4 / 2, (8, 9), 24, 24, 2.46),  # 8 lanes
    "rtx4070": _geforce("4070", 12, 504e9, _PCIE4, (8, 9), 46, 36, 2.475),
    "rtx4080": _geforce("4080", 16, 716.8e9, _PCIE4, (8, 9), 76, 64, 2.505),
    "rtx4090": _geforce("4090", 24, 1008e9, _PCIE4, (8, 9), 128, 72, 2.52),
    "rtx5070": _geforce("5070", 12, 672e9, _PCIE5, (12, 0), 48, 48, 2.512),
    "rtx5080": _geforce("5080", 16, 960e9, _PCIE5, (12, 0), 84, 64, 2.617),
    "rtx5090": _geforce("5090", 32, 1792e9, _PCIE5, (12, 0), 170, 96, 2.407),
    "a100-40": _Row(
        "A100.*40GB", 40, Rates(312e12, 156e12, 1555e9, **_nvlink(300e9, 25e9)),
        Gpu("NVIDIA A100-SXM4-40GB", (8, 0), 108, 64, 2048, 164, 40, 1.41, 42_331_013_120),
    ),
    "a100-80": _Row(
        "A100.*80GB", 80, Rates(312e12, 156e12, 2039e9, **_nvlink(300e9, 25e9)),
        Gpu("NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 2048, 164, 40, 1.41, 85_100_068_864),
    ),
    "l40s": _Row(
        "L40S", 48, Rates(362e12, 183e12, 864e9, _PCIE4),
        Gpu("NVIDIA L40S", (8, 9), 142, 128, 1536, 100, 96, 2.52),
    ),
    "h100": _Row(
        "H100", 80, Rates(989e12, 494e12, 3.35e12, **_nvlink(450e9, 50e9)),
        Gpu("NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 2048, 228, 50, 1.98, 84_978_434_048),
    ),
    "h200": _Row(
        "H200", 141, Rates(989e12, 494e12, 4.8e12, **_nvlink(450e9, 50e9)),
        Gpu("NVIDIA H200", (9, 0), 132, 128, 2048, 228, 50, 1.98, 151_397_597_184),
    ),
    "b200": _Row(
        "B200", 180, Rates(2250e12, 1125e12, 8e12, **_nvlink(900e9, 50e9)),
        Gpu("NVIDIA B200", (10, 0), 148, 128, 2048, 228, 126, 1.965, 191_514_411_008),
    ),
    "v2": _Row("TPU v2", 8, Rates(22.5e12, 22.5e12, 350e9, 124e9), Tpu("v2", 2, 2)),
    "v3": _Row("TPU v3", 16, Rates(61.5e12, 61.5e12, 450e9, 164e9), Tpu("v3", 2, 2)),
    # JAX counts the two cores of a v4 chip as one device, libtpu's topology counts them as two.
    "v4": _Row("TPU v4", 32, Rates(275e12, 275e12, 1228e9, 300e9), None),
    "v5e": _Row("TPU v5 lite", 16, Rates(197e12, 197e12, 819e9, 200e9), Tpu("v5e", 2)),
    "v5p": _Row("TPU v5p?", 95, Rates(459e12, 459e12, 2765e9, 600e9), Tpu("v5p", 3)),
    "v6e": _Row("TPU v6 lite", 32, Rates(918e12, 918e12, 1640e9, 448e9), Tpu("v6e", 2)),
}  # fmt: skip


def get_device(name: str) -> Device:
    """Returns the device that `--device` names.

    Raises:
      UserError: the name is unknown.
    """
    if name not in DEVICES:
        near = difflib.get_close_matches(name, DEVICES, 1)
        hint = f"did you mean {near[0]!r}? Known are" if near else "known are"
        raise UserError(f"--device {name!r} is unknown; {hint} {', '.join(DEVICES)}.")
    row = DEVICES[name]
    return Device(
        name,
        int(USABLE * row.gigabytes * 1e9),
        row.precision,
        None if row.host is None else int(row.host * 1e9),
        row.rates,
        row.target,
        int(row.gigabytes * 1e9),
    )


def rates_of(kind: str) -> Rates | None:
    """Returns the rates of a device by its `jax.Device.device_kind`, None if it is unknown."""
    found = [(re.search(rf"\b{row.kind}\b", kind), row.rates) for row in DEVICES.values()]
    # The longest match counts, since "TPU v5 lite" contains "TPU v5" as well.
    fits = [(len(match.group()), rates) for match, rates in found if match]
    return max(fits, key=lambda pair: pair[0])[1] if fits else None


def this_device() -> Device:
    """Returns a description of this machine's devices.

    A CPU device may use an equal share of the machine's free memory.
    """
    device, host = jax.local_devices()[0], free_host_bytes()
    stats = device.memory_stats()
    limit = host // jax.local_device_count()
    if device.platform != "cpu" and stats and "bytes_limit" in stats:
        limit = stats["bytes_limit"]
    kind = device.device_kind
    return Device(kind, limit, precision_here(), host, rates_of(kind))


def tpu_topology(target: Tpu, count: int) -> tuple[str, tuple[int, int, int]]:
    """Returns the smallest topology with this many devices, and the chips of one of its hosts.

    It is `v5e:2x4` for 8 devices of a v5e, and `v5p:2x2x2` for 8 of a v5p: the axes of a slice are
    powers of two that differ by at most a factor of two, and the last ones are the larger.
    """
    chips = 1 << (math.ceil(count / target.cores) - 1).bit_length()
    sides = [1] * target.axes
    if chips == 1:
        return f"{target.version}:{'x'.join(map(str, sides))}", (1, 1, 1)
    sides[0] = sides[1] = 2  # a host has four chips
    while math.prod(sides) < chips:
        axis = min(range(target.axes), key=lambda i: (sides[i], -i))
        sides[axis] *= 2
    return f"{target.version}:{'x'.join(map(str, sides))}", (2, 2, 1)
