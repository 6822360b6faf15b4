"""The table of devices, and compilers whose devices are not there."""

import jax
import jax.numpy as jnp
import pytest

from pgjax.devices import targets
from pgjax.devices.data_sheets import DEVICES, Gpu, Tpu, get_device, rates_of, tpu_topology
from pgjax.devices.precision import FLOAT16
from pgjax.errors import UserError

GPUS = [name for name in DEVICES if isinstance(get_device(name).target, Gpu)]


def test_devices():
    with pytest.raises(UserError, match="--device 'a100' is unknown"):
        get_device("a100")
    assert get_device("t4").precision == FLOAT16
    assert get_device("t4").usable_bytes < 16e9
    assert all(get_device(name).rates.flops >= 18e12 for name in DEVICES)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100 80GB PCIe", "a100-80"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA L40S", "l40s"),
        ("Tesla T4", "t4"),
        ("TPU v5 lite", "v5e"),
        ("TPU v5p", "v5p"),
        ("TPU v5", "v5p"),
        ("NVIDIA L40", None),
        ("NVIDIA GeForce RTX 4070", "rtx4070"),
        ("NVIDIA GeForce RTX 4070 Ti", None),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", None),
        ("NVIDIA GeForce RTX 2080 Ti", "rtx2080ti"),
        ("cpu", None),
    ],
)
def test_the_device_that_is_there(kind, name):
    assert rates_of(kind) == (name and get_device(name).rates)


def test_every_gpu_is_found_by_what_its_driver_calls_it():
    for name in GPUS:
        device = get_device(name)
        assert rates_of(device.target.description) == device.rates


@pytest.mark.parametrize(
    ("name", "tflops"),
    [("rtx2080ti", 53.8), ("rtx3080", 59.5), ("rtx3090", 71), ("rtx4080", 97.5),
     ("rtx4090", 165.2), ("rtx5080", 112.6), ("rtx5090", 209.5)],
)  # fmt: skip
def test_geforce_rates_are_those_of_the_architecture_papers(name, tflops):
    """Of 16-bit products with float32 sums, as the papers' tables print them."""
    assert get_device(name).rates.flops / 1e12 == pytest.approx(tflops, rel=0.004)


def test_small_devices():
    usable = {name: get_device(name).usable_bytes / 2**30 for name in ("rtx3070", "rtx4070")}
    assert 7 < usable["rtx3070"] < 8 < 10 < usable["rtx4070"] < 12
    assert get_device("rtx2080ti").precision == FLOAT16


def test_links_end_at_a_machine():
    rates = get_device("h100").rates
    assert rates.between(8) == 450e9 and rates.between(64) == 50e9
    assert get_device("v5e").rates.between(256) == 200e9


@pytest.mark.parametrize(
    ("version", "axes", "cores", "count", "name"),
    [
        ("v5e", 2, 1, 1, "v5e:1x1"),
        ("v5e", 2, 1, 4, "v5e:2x2"),
        ("v5e", 2, 1, 8, "v5e:2x4"),
        ("v5e", 2, 1, 6, "v5e:2x4"),
        ("v5e", 2, 1, 64, "v5e:8x8"),
        ("v5e", 2, 1, 256, "v5e:16x16"),
        ("v5p", 3, 1, 8, "v5p:2x2x2"),
        ("v5p", 3, 1, 16, "v5p:2x2x4"),
        ("v5p", 3, 1, 64, "v5p:4x4x4"),
        ("v3", 2, 2, 8, "v3:2x2"),
    ],
)
def test_topologies(version, axes, cores, count, name):
    assert tpu_topology(Tpu(version, axes, cores), count)[0] == name


def test_the_description_of_a_gpu():
    text = targets.gpu_description(get_device("t4"))
    assert "core_count: 40" in text and "cuda_compute_capability { major: 7 minor: 5 }" in text
    assert "shared_memory_per_block_optin: 65536" in text and "15835660288" in text
    assert "shared_memory_per_block_optin: 232448" in targets.gpu_description(get_device("h100"))


def test_gpus_come_in_machines_of_eight():
    with pytest.raises(UserError, match="12 GPUs cannot be planned for; expected at most 8"):
        targets._gpu_topology(12)
    assert [targets._gpu_topology(n) for n in (1, 8, 64)] == ["1x1x1", "1x1x8", "1x8x8"]


def test_devices_that_are_there_need_no_options():
    assert targets.compiler_options(jax.devices()) is None
    assert targets.compiler_of(jax.devices()) == "cpu"
    assert targets.is_here(jax.devices()[0])


@pytest.mark.parametrize("name", GPUS)
def test_compilers_take_every_gpu(name):
    devices = targets.target_devices(get_device(name), 1)
    if devices is None:
        pytest.skip("needs the extra cuda12 or cuda13")
    assert targets.compiler_of(devices) == "cuda" and not targets.is_here(devices[0])
    here = jax.sharding.SingleDeviceSharding(devices[0])
    x = jax.ShapeDtypeStruct((64, 64), jnp.float16, sharding=here)
    compiled = jax.jit(lambda x: x @ x).lower(x).compile(targets.compiler_options(devices))
    assert compiled.memory_analysis().argument_size_in_bytes == 2 * 64 * 64


def test_without_its_compiler_a_device_is_not_there(monkeypatch):
    monkeypatch.setattr(targets, "_installed", lambda platform: False)
    assert targets.target_devices(get_device("h100"), 8) is None
    assert targets.target_devices(get_device("v5e"), 8) is None
    assert targets.target_devices(get_device("v4"), 8) is None
