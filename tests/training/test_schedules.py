import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GOLDEN

from pgjax.errors import UserError
from pgjax.training import schedules


def make_schedule(**kwargs):
    return jax.jit(schedules.make_schedule(**kwargs))


with np.load(GOLDEN / "train.npz") as arrays:
    TRAIN = dict(arrays)
NAMES = sorted(k.split("/")[1] for k in TRAIN if k.endswith("/kw_json"))


def translate(kw):
    """The reference's arguments as pgjax takes them: epochs and examples are counted in steps."""
    batch, size = kw.pop("batch_size", 1), kw.pop("data_size", 1)
    if "warmup_epochs" in kw:
        kw["warmup_steps"] = int(kw.pop("warmup_epochs") * size / batch)
    if "warmup_examples" in kw:
        kw["warmup_steps"] = int(kw.pop("warmup_examples") / batch)
    kw["decay"] = kw.pop("decay_type")
    return kw


@pytest.mark.parametrize("name", NAMES)
def test_golden(name):
    kw = translate(json.loads(str(TRAIN[f"sched/{name}/kw_json"])))
    steps = jnp.arange(kw["total_steps"] + 1, dtype=jnp.int32)
    want = TRAIN[f"sched/{name}"][: len(steps)]
    got = make_schedule(**kw)(steps)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6 * want.max())


def test_golden_names_are_all_there():
    assert {"linear", "linear_cool", "cosine", "rsqrt", "epochs", "nowarm"} <= set(NAMES)


def test_golden_notebook():
    """64 steps at 0.03 with a tenth of warm-up; the notebook counts from 1 and plans for 65."""
    kwargs = {"total_steps": 65, "base": 0.03, "warmup_percent": 0.1}
    want = TRAIN["colab_sched"]
    from_zero = make_schedule(**kwargs)(jnp.arange(66, dtype=jnp.int32))
    np.testing.assert_allclose(from_zero, want, rtol=2e-5, atol=1e-8)
    from_one = make_schedule(**kwargs, first_step=1)(jnp.arange(64, dtype=jnp.int32))
    np.testing.assert_allclose(from_one, want[1:65], rtol=2e-5, atol=1e-8)


@pytest.mark.parametrize("decay", ["constant", "cosine", "linear", "rsqrt"])
def test_warm_up_and_ends(decay):
    schedule = make_schedule(total_steps=100, decay=decay, base=2.0, warmup_steps=10, timescale=30)
    values = np.asarray(schedule(jnp.arange(131, dtype=jnp.int32)))
    assert values[0] == 0.0
    assert values[10] == pytest.approx(2.0)
    assert (np.diff(values[:11]) > 0).all()
    end = {"constant": 2.0, "cosine": 0.0, "linear": 0.0, "rsqrt": 2 * (30 / 120) ** 0.5}[decay]
    assert values[100] == pytest.approx(end, abs=1e-6)
    if decay in ("cosine", "linear"):
        np.testing.assert_allclose(values[100:], 0.0, atol=1e-6)  # and never rises again


def test_middle_of_the_decay():
    def value(step, **kwargs):
        return float(make_schedule(total_steps=110, warmup_steps=10, **kwargs)(jnp.int32(step)))

    assert value(60, decay="cosine") == pytest.approx(0.5)
    assert value(35, decay="cosine") == pytest.approx(0.5 + 0.5 * 2**-0.5)
    assert value(60, decay="linear") == pytest.approx(0.5)
    assert value(60, decay="linear", linear_end=0.2) == pytest.approx(0.6)
    assert value(105, decay="constant", cooldown_steps=20) == pytest.approx(0.25)
    assert value(90, decay="constant", cooldown_steps=20) == pytest.approx(1.0)


def test_a_share_is_rounded_down():
    schedule = make_schedule(total_steps=64, decay="constant", warmup_percent=0.1)
    np.testing.assert_allclose(schedule(jnp.int32([3, 6, 7])), [0.5, 1.0, 1.0])
    none = make_schedule(total_steps=9, decay="constant", warmup_percent=0.1)
    assert none(jnp.int32(0)) == 1.0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"decay": "exp"}, r"schedule.decay is 'exp'.*cosine"),
        ({"warmup_steps": 3, "warmup_percent": 0.1}, "both warmup_steps and"),
        ({"warmup_steps": 11}, r"11 steps of warm-up.*the 10 steps of the run"),
        ({"warmup_percent": 1.5}, r"15 steps of warm-up"),
        ({"warmup_steps": 6, "cooldown_steps": 5}, r"6 steps of warm-up and 5 of cool-down"),
        ({"warmup_steps": -1}, r"-1 steps of warm-up"),
        ({"warmup_steps": 5, "cooldown_steps": -2}, r"-2 of cool-down"),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(UserError, match=message):
        make_schedule(total_steps=10, **kwargs)
