"""Fused attention compiled for devices that are not there, where their compilers are installed."""

import subprocess
import sys

import pytest
from conftest import ROOT

COMPILE = """
import sys
import jax, jax.numpy as jnp
from pgjax.devices.data_sheets import get_device
from pgjax.devices.targets import compiler_options, target_devices, use_cpu
from pgjax import sharding
from pgjax.models.attention import attend

use_cpu()
name, count, tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
devices = target_devices(get_device(name), count)
if devices is None:
    print("not installed")
    sys.exit()
mesh = sharding.make_mesh(count, 1, devices=devices)
rows = sharding.batch_sharding(mesh)
x = jax.ShapeDtypeStruct((count, tokens, 16, 72), jnp.bfloat16, sharding=rows)

def loss(q, k, v):
    return attend(q, k, v).astype(jnp.float32).sum()

with sharding.use_mesh(mesh):
    lowered = jax.jit(jax.grad(loss, (0, 1, 2))).lower(x, x, x)
compiled = lowered.compile(compiler_options(devices))
text = compiled.as_text()
print(compiled.memory_analysis().temp_size_in_bytes)
print(f"{tokens},{tokens}]" in text, "all-gather" in text)
print(text.count("fmhaSoftmax") or text.count("fmha"), text.count("tpu_custom_call"))
"""


@pytest.mark.parametrize(("device", "count"), [("h100", 1), ("h100", 4), ("v5e", 4)])
def test_the_image_tower_at_896_pixels(device, count):
    """Forward and backward, on a mesh too: a kernel on each device, and no matrix of logits."""
    command = [sys.executable, "-c", COMPILE, device, str(count), "4096"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    if "not installed" in done.stdout or "one process at a time" in done.stderr:
        pytest.skip(f"the compiler of {device} is not installed, or in use")
    assert not done.returncode, done.stderr
    temporaries, matrix, kernels = done.stdout.splitlines()[-3:]
    assert int(temporaries) < 64 * 2**20  # 16 heads of float32 logits would take 1 GiB
    assert matrix == "False False"
    gpu, tpu = map(int, kernels.split())
    assert (gpu if device == "h100" else tpu) >= 2
