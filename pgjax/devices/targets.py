"""Target devices that are not present: XLA's compilers work from a description of them.

The compiler for GPUs comes with the extra `cuda12` or `cuda13` (no driver is needed), the one for
TPUs with the extra `tpu`.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.experimental import topologies

from pgjax.devices.data_sheets import Device, Gpu, Tpu, tpu_topology
from pgjax.errors import UserError

# jaxlib has no type stubs for its compiled part, so type checkers take `jax.Device` for a variable.
JaxDevice: TypeAlias = jax.Device  # pyright: ignore[reportInvalidTypeForm]

_GPUS_OF_A_HOST = 8
# No device is present to time kernels on. Without timing, XLA finds no Triton tiles for some
# products and gives up, and it splits others into parts whose float32 sums take memory that no
# real run needs; cuBLAS chooses its kernels without timing.
_GPU_OPTIONS = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}


def use_cpu() -> None:
    """Makes this process run on CPUs, and lets it use compilers of devices that are not present.

    To be called before JAX looks for devices; the plugins read these variables as they load.
    """
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    # Otherwise libtpu asks a metadata server for these, and complains if there is none.
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    jax.config.update("jax_platforms", "cpu")


def target_devices(device: Device, count: int) -> list[JaxDevice] | None:
    """Returns devices to compile for, which hold no arrays and run no programs.

    A mesh of them serves for `.lower()` and `.compile()` after `use_cpu`.

    Args:
      device: the device to compile for, from `data_sheets.get_device`.
      count: number of devices; TPUs are the first ones of the smallest topology with that many.

    Returns:
      The devices, or None if their compiler is not installed or does not support the device.

    Raises:
      UserError: another process is using the compiler, the compiler rejects the description, or
        GPUs do not fill machines of eight.
    """
    if isinstance(device.target, Gpu):
        platform = "cuda"
        options = {
            "target_config": gpu_description(device),
            "topology": _gpu_topology(count),
        }
    elif isinstance(device.target, Tpu):
        platform = "tpu"
        name, host = tpu_topology(device.target, count)
        options = {"topology_name": name, "chips_per_host_bounds": host}
    else:
        return None
    if not _installed(platform):
        return None
    with _one_sentence(device.name):
        found = topologies.get_topology_desc(platform=platform, **options).devices
    return list(found[:count])


def compiler_of(devices: np.ndarray | Sequence[JaxDevice]) -> str:
    """Returns the compiler of devices of one platform: `cuda`, `tpu`, `cpu` or another platform."""
    platform = np.asarray(devices).flat[0].platform
    return "cuda" if platform == "gpu" else platform


def compiler_options(devices: np.ndarray | Sequence[JaxDevice]) -> dict[str, Any] | None:
    """Returns the options of `.compile()` for GPUs that are not present; None for other devices.

    Args:
      devices: devices of one platform, from `target_devices` or `jax.devices()`.
    """
    first = np.asarray(devices).flat[0]
    return dict(_GPU_OPTIONS) if first.platform == "gpu" and not is_here(first) else None


def is_here(device: JaxDevice) -> bool:
    """Says whether a device is present, so that it can run programs."""
    return isinstance(device, jax.Device) and device in jax.devices()


def gpu_description(device: Device) -> str:
    """Describes a GPU in the text format of XLA's `stream_executor.GpuTargetConfigProto`.

    Raises:
      TypeError: the device is not a GPU of `data_sheets.DEVICES`.
    """
    gpu, rates = device.target, device.rates
    if not isinstance(gpu, Gpu) or rates is None:
        raise TypeError(f"{device.name} is not a GPU of the data sheets.")
    # A block can use all of a multiprocessor's shared memory but 1 KiB from Ampere on (CUDA
    # programming guide, technical specifications per compute capability), and all of it before.
    block = gpu.shared * 1024 - (1024 if gpu.capability >= (8, 0) else 0)
    block = block if gpu.capability >= (7, 0) else 48 * 1024
    major, minor = gpu.capability
    info = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 48 * 1024,
        "shared_memory_per_core": gpu.shared * 1024,
        "shared_memory_per_block_optin": block,
        "threads_per_core_limit": gpu.threads,
        "core_count": gpu.cores,
        "fpus_per_core": gpu.fpus,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 65535,
        "block_dim_limit_z": 65535,
        "registers_per_core_limit": 65536,
        "registers_per_block_limit": 65536,
        "memory_bandwidth": int(rates.memory),
        "l2_cache_size": int(gpu.l2 * 2**20),
        "clock_rate_ghz": gpu.clock,
        "device_memory_size": gpu.memory_size or device.memory_bytes,
        "cuda_compute_capability": f"{{ major: {major} minor: {minor} }}",
    }
    lines = "\n".join(
        f"  {key}{'' if str(value).startswith('{') else ':'} {value}" for key, value in info.items()
    )
    return (
        f"gpu_device_info {{\n{lines}\n}}\n"
        'platform_name: "CUDA"\n'
        "dnn_version_info { major: 9 minor: 8 }\n"
        f'device_description_str: "{gpu.description}"\n'
    )


def _gpu_topology(count: int) -> str:
    """Returns `slices x hosts x GPUs of a host`, as XLA writes a topology."""
    if count > _GPUS_OF_A_HOST and count % _GPUS_OF_A_HOST:
        raise UserError(
            f"{count} GPUs cannot be planned for; expected at most {_GPUS_OF_A_HOST}, which fit in "
            f"one machine, or a multiple of {_GPUS_OF_A_HOST}."
        )
    hosts = max(1, count // _GPUS_OF_A_HOST)
    return f"1x{hosts}x{count // hosts}"


def _installed(platform: str) -> bool:
    """Says whether the plugin is installed that contains a platform's compiler."""
    from importlib import util

    if platform == "tpu":
        return util.find_spec("libtpu") is not None
    return any(
        _found(f"jax_plugins.xla_cuda{version}") and _found("nvidia") for version in (12, 13)
    )


def _found(module: str) -> bool:
    from importlib import util

    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@contextlib.contextmanager
def _one_sentence(name: str) -> Iterator[None]:
    try:
        yield
    except jax.errors.JaxRuntimeError as e:
        text = " ".join(str(e).split())
        if "libtpu" in text and ("lockfile" in text or "in use" in text.lower()):
            raise UserError(
                "the compiler for TPUs (libtpu) serves one process at a time, and another process "
                "is using it; wait until that process has ended."
            ) from None
        raise UserError(
            f"the compiler rejects the description of {name}: {text.rstrip('.')}."
        ) from None
