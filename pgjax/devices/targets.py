"""Devices that are not there, for their own compilers: XLA compiles for a description of them.

The compiler of a GPU comes with the extra `cuda12` or `cuda13` (its driver is not needed), that of
a TPU with the extra `tpu`.
"""

import contextlib
import os
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import topologies

from pgjax.devices.data_sheets import Device, Gpu, Tpu, tpu_topology
from pgjax.errors import UserError

_GPUS_OF_A_HOST = 8
# There is no device to time kernels on. Without timing, XLA finds no tiles of Triton's for some
# products and gives up, and it splits others into parts whose float32 sums take memory that no
# real run needs; cuBLAS chooses by itself.
_GPU_OPTIONS = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}


def use_cpu() -> None:
    """Makes this process's own devices CPUs, and lets compilers be used without their devices.

    To be called before JAX has looked for devices; the plugins read these variables as they load.
    """
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    # What libtpu would otherwise ask a metadata server, and complain about.
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    jax.config.update("jax_platforms", "cpu")


def target_devices(device: Device, count: int) -> list[jax.Device] | None:
    """Devices to compile for, which hold no arrays and run nothing.

    A mesh of them is as good as any for `.lower()` and `.compile()`; see `use_cpu`.

    Args:
      device: of the table.
      count: how many; of TPUs the first of the smallest topology that has as many.

    Returns:
      The devices, or None where the compiler is not installed or the device has none.

    Raises:
      UserError: the compiler is in use by another process, or does not take the description.
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


def compiler_of(devices: np.ndarray | list[jax.Device]) -> str:
    """`cuda`, `tpu`, `cpu`, …: whose compiler compiles for these devices."""
    platform = np.asarray(devices).flat[0].platform
    return "cuda" if platform == "gpu" else platform


def compiler_options(devices: np.ndarray | list[jax.Device]) -> dict[str, object] | None:
    """For `.compile()`; None for devices that are there, and where there is nothing to choose.

    Args:
      devices: of one platform, from `target_devices` or `jax.devices()`.
    """
    first = np.asarray(devices).flat[0]
    return dict(_GPU_OPTIONS) if first.platform == "gpu" and not is_here(first) else None


def is_here(device: jax.Device) -> bool:
    """Whether a device can run programs, and is not only one to compile for."""
    return isinstance(device, jax.Device) and device in jax.devices()


def gpu_description(device: Device) -> str:
    """A GPU in text format of XLA's `stream_executor.GpuTargetConfigProto`."""
    gpu = device.target
    # A block can have all of a core's shared memory but 1 KiB from Ampere on (CUDA programming
    # guide, technical specifications per compute capability), and all of it before.
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
        "memory_bandwidth": int(device.rates.memory),
        "l2_cache_size": gpu.l2 * 2**20,
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
    """`slices x hosts x GPUs of a host`, as XLA writes it."""
    if count > _GPUS_OF_A_HOST and count % _GPUS_OF_A_HOST:
        raise UserError(
            f"{count} GPUs are neither at most {_GPUS_OF_A_HOST}, which a machine has, nor a "
            "multiple of it."
        )
    hosts = max(1, count // _GPUS_OF_A_HOST)
    return f"1x{hosts}x{count // hosts}"


def _installed(platform: str) -> bool:
    """Whether JAX finds the plugin that brings the compiler."""
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
                "The compiler for TPUs (libtpu) serves one process at a time, and another one has "
                "it; wait until that has ended."
            ) from None
        raise UserError(f"The compiler does not take the description of {name}: {text}") from None
