"""Model FLOPs of a step, and what the live line says of the device."""

import numpy as np
import pytest

from pgjax.config import parse_config
from pgjax.devices.data_sheets import get_device
from pgjax.loading.model_context import open_sharded_model
from pgjax.recipes import adapted, transfer
from pgjax.training import device_use
from pgjax.training.device_use import DeviceUse, describe_use, model_flops
from pgjax.training.live_line import LiveLine
from pgjax.training.step_builder import make_step_builder

ROWS, LENGTH, TARGET = 4, 32, 5
TOWER = 3 * (4 * 96 * 96 + 2 * 96 * 256) + 8 * 8 * 3 * 96  # weights of the tiny image tower
HEAD = 96 * 96
DECODER = 3 * (2 * 96 * 96 + 2 * 96 * 24 + 3 * 96 * 256)
ATTENTION = 3 * (2 * 96 * 96 + 2 * 96 * 24)
PATCHES, VOCABULARY = 64, 1664 * 96


def builder(mode):
    c = transfer(
        "used", train={}, evals={}, prompt="", target="", variant="tiny", mode=mode,
        text_len=LENGTH, steps=3, batch_size=ROWS, lr=1e-5,
    )  # fmt: skip
    return make_step_builder(open_sharded_model(parse_config(adapted(c))), 3)


def batch(images=()):
    loss = np.zeros((ROWS, LENGTH), np.float32)
    loss[:, -TARGET:] = 1
    return {
        "image": np.zeros((ROWS, *images, 64, 64, 3), np.float32),
        "text": np.zeros((ROWS, LENGTH), np.int32),
        "mask_loss": loss,
    }


def by_hand(images, tower, head, decoder, trained, through, table):
    """Counts of passes, for each part of the model, times its FLOPs forward."""
    patches, tokens = images * PATCHES, images * PATCHES + LENGTH - 1
    each = 2 * patches * (tower * TOWER + head * HEAD) + 2 * tokens * decoder * DECODER
    each += 2 * tokens * trained
    each += tower * images * 4 * 3 * 96 * PATCHES**2 + through * 4 * 3 * 96 * tokens**2
    return ROWS * (each + 2 * TARGET * table * VOCABULARY)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(
    ("mode", "passes"),
    [
        ("full", (3, 3, 3, 0, 3, 3)),
        ("attention", (1, 1, 2, ATTENTION, 3, 2)),  # the head has no gradient to pass on
        ("freeze_llm", (3, 3, 2, 0, 3, 2)),
    ],
)
def test_model_flops(mode, passes, images):
    shape = () if images == 1 else (images,)
    assert model_flops(builder(mode), batch(shape)) == by_hand(images, *passes)


def test_use_of_a_device_that_reports_it(monkeypatch, capsys):
    class Fake:
        def memory_stats(self):
            return {"bytes_in_use": 2**30, "peak_bytes_in_use": 2**31, "bytes_limit": 2**33}

    monkeypatch.setattr(device_use, "this_device", lambda: get_device("t4"))
    use = DeviceUse(builder("full"), batch())
    monkeypatch.setattr(device_use.jax, "local_devices", lambda: [Fake(), Fake()])
    values = use.values(0.5)
    assert values["mfu"] == use.flops / 0.5 / 65e12
    assert (values["memory_bytes"], values["memory_peak_bytes"]) == (2**30, 2**31)
    said = describe_use({**values, "mfu": 0.423})
    assert said == ["memory 1.00 GiB, at most 2.00 GiB of 8.00 GiB", "MFU 42.3%"]
    line = LiveLine(0, 10, use)
    rates = line.update(5, 1.0, 4)
    assert {"mfu", "memory_bytes", "examples_per_second"} <= rates.keys()
    out = capsys.readouterr().out
    assert "examples/s" in out and "memory 1.00 GiB" in out and "MFU" in out


def test_a_cpu_reports_neither(capsys):
    rates = LiveLine(0, 10, DeviceUse(builder("full"), batch())).update(5, 1.0, 4)
    assert rates.keys() == {"steps_per_second", "examples_per_second", "input_wait"}
    assert "MFU" not in capsys.readouterr().out
