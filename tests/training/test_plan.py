"""The memory plan: full-size figures, verdicts, and runs that stop before they load."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import pytest
from conftest import PHOTOS

from pgjax.config import parse_config
from pgjax.devices.compiled import _needed
from pgjax.devices.data_sheets import Device, get_device
from pgjax.devices.precision import BFLOAT16, FLOAT16, resolved
from pgjax.devices.targets import target_devices
from pgjax.errors import UserError
from pgjax.loading.model_context import open_sharded_model
from pgjax.recipes import adapted, transfer
from pgjax.training.largest import largest_batch
from pgjax.training.plan_text import describe, step_line
from pgjax.training.step_builder import make_step_builder
from pgjax.training.step_memory import (
    abstract_batch,
    compile_memory,
    estimate_memory,
    host_bytes,
    moments,
    nbytes,
)
from pgjax.training.training_plan import check_fits, plan, summarize

GIB = 2**30


def config(mode="", variant="3b", batch_size=8, **changes):
    c = transfer(
        "planned", train={}, evals={}, prompt="", target="", variant=variant, mode=mode,
        text_len=128, steps=64, batch_size=batch_size, lr=1e-5,
    )  # fmt: skip
    c.update_from_flattened_dict(changes)
    return adapted(c, changes)


def builder(*args, precision=None, **kwargs):
    c = resolved(parse_config(config(*args, **kwargs)), precision)
    return make_step_builder(open_sharded_model(c), c.total_steps)


def test_the_t4_recipe_at_full_size():
    """What trains, in what precision, and what the optimizer keeps of it: nothing."""
    p = builder("attention", precision=FLOAT16)
    state, frozen = p.abstract()
    assert {n.removeprefix("llm/layers/attn/") for n in state.params} == {
        "q_einsum/w", "kv_einsum/w", "attn_vec_einsum/w",
    }  # fmt: skip
    assert all(x.shape[0] == 18 and x.dtype == jnp.float32 for x in state.params.values())
    assert sum(x.size for x in state.params.values()) == 169_869_312
    assert sum(x.size for x in frozen.values()) == 2_923_335_408 - 169_869_312
    assert {x.dtype for x in frozen.values()} == {jnp.dtype("float16")}
    assert nbytes(moments(state.opt_state)) == 0
    assert not p.scaled  # the tower's float16 is not differentiated
    assert host_bytes(p) < get_device("t4").host_bytes


@pytest.mark.slow
@pytest.mark.parametrize(("res", "batch"), [(224, 8), (448, 2)])
def test_the_t4_recipe_fits_into_nine_gib(res, batch):
    p = builder("attention", precision=FLOAT16, batch_size=batch, **{"model.res": res})
    with jax.numpy_dtype_promotion("standard"):  # flax's norms promote float16 parameters
        assert compile_memory(p).peak <= 9 * GIB


def test_parts_of_full_tuning():
    p = builder(**{"optimizer.name": "adam"})
    n = estimate_memory(p)
    parameters = 4 * 2_923_335_408
    assert (n.trainable, n.optimizer, n.gradients) == (parameters, 2 * parameters, parameters)
    assert n.batch == 8 * (224 * 224 * 3 + 3 * 128) * 4
    assert n.peak >= 4 * parameters  # parameters, two moments, gradients


def test_what_a_plan_says():
    tiny = Device("tiny", 2**20, BFLOAT16)
    c = config("full", "tiny", 16)
    found = plan(c, tiny)
    assert not found.fits and "does NOT fit" in found.text
    assert "--config.grad_accum_steps=2" in found.text
    assert "--config.adapt=attention" in found.text
    assert "Computes in float32" in found.text  # what the variant asks for wins over the device
    assert found.summary["compiler"] == "cpu" and found.summary["largest_batch"] is None
    assert found.summary["seconds_at_least"] is None  # there is no data sheet


def test_what_a_plan_counts():
    """Of a step of the tiny model, with the rates of a T4."""
    p, t4 = builder("full", "tiny", 16), get_device("t4")
    n = compile_memory(p)
    assert n.temporaries > n.gradients and n.peak == n.arguments + n.temporaries
    text, r = describe(p, n, t4), summarize(p, n, t4)
    assert "It fits" in text and "compiled for a CPU" in text and "cuda12" in text
    # A product forward is two backward, and remat makes the layers a second time.
    model, tokens = p.sharded.model, 64 + 127
    layers = sum(math.prod(s) for k, s in p.sharded.shapes.items() if k.startswith("llm/layers"))
    assert r["flops"] > 2 * 4 * layers * 16 * tokens
    logits = 6 * 16 * 128 * model.llm_config.width * model.llm_config.vocab_size
    tower = (
        8
        * 16
        * 64
        * sum(
            math.prod(s) for k, s in p.sharded.shapes.items() if k.startswith("img/") and len(s) > 1
        )
    )
    attention = 8 * 2 * 16 * tokens**2 * 3 * 96 + 8 * 2 * 16 * 64**2 * 3 * 96
    most = 2 * 4 * layers * 16 * tokens + logits + tower + attention
    assert 0.9 * most < r["flops"] < 1.1 * most
    assert r["seconds"]["compute"] == r["flops_by_bits"]["32"] / 8.1e12
    assert r["seconds_at_least"] == max(r["seconds"].values())
    assert r["examples_per_second_at_most"] == 16 / r["seconds_at_least"]
    assert r["collective_bytes"] == {} and r["seconds"]["network"] == 0
    assert r["steps"] == 64 and r["hours_at_least"] == 64 * r["seconds_at_least"] / 3600
    assert r["peak_bytes"] == n.compiled.peak and r["fits"]


def test_one_line_about_the_step_of_a_run(monkeypatch):
    """Of the step that the run compiled anyway; a CPU has no data sheet, so it is spared."""
    p = builder("full", "tiny", 16)
    state, frozen = p.abstract()
    step = p.lower(state, frozen, abstract_batch(p)).compile()
    assert step_line(p, step, 128) is None
    monkeypatch.setattr("pgjax.training.plan_text.compiler_of", lambda devices: "cuda")
    monkeypatch.setattr("pgjax.training.plan_text.this_device", lambda: get_device("t4"))
    line = step_line(p, step, 128)
    assert line.startswith("A step takes ") and "TFLOP" not in line and "GFLOP" in line
    assert line.endswith(" at least.") and "sends 0 B" in line


def test_a_plan_for_a_gpu_is_that_of_its_compiler():
    """The peak is the compiler's, and the batch that it finds is the largest."""
    t4 = get_device("t4")
    if target_devices(t4, 1) is None:
        pytest.skip("needs the extra cuda12 or cuda13")
    small = dataclasses.replace(t4, usable_bytes=2**27)
    with jax.numpy_dtype_promotion("standard"):  # flax's norms promote float16 parameters
        found = plan(config("full", "tiny", 4), small)
    assert found.summary["compiler"] == "cuda" and "the compiler of CUDA" in found.text
    most = found.summary["largest_batch"]
    assert most > 4 and found.summary["largest_batch_peak_bytes"] <= small.usable_bytes
    assert found.summary["largest_batch_examples_per_second_at_most"] > 0
    assert f"largest batch that fits is {found.summary['largest_batch']}" in found.text


@pytest.mark.parametrize(
    ("usable", "batch", "each", "most"),
    [(1000, 8, 1, 90), (1000, 8, 8, 88), (1000, 256, 1, 90), (105, 8, 2, 0), (110, 1, 1, 1)],
)
def test_the_largest_batch(usable, batch, each, most):
    """Of a peak that is linear but for a little; few are compiled."""
    calls = []

    def peak(n):
        calls.append(n)
        return 100 + 10 * n + (n % 3)

    assert largest_batch(peak, {batch: peak(batch)}, each, usable) in (most, most - 1)
    assert len(calls) <= 5 and all(n % each == 0 for n in calls)


def test_a_compiler_that_gives_up_says_how_much_was_needed():
    said = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (47.5G) exceeds available HBM (15.75G)."
    )
    assert _needed(said) == int(47.5 * 2**30)
    assert _needed("RESOURCE_EXHAUSTED: … Used 23.12G of 15.75G hbm. …") == int(23.12 * 2**30)
    assert _needed("INVALID_ARGUMENT: …") is None


def test_a_run_that_cannot_fit_stops(monkeypatch):
    """With the plan in its message, and nothing loaded."""
    small = Device("cpu", 2**20, BFLOAT16)
    monkeypatch.setattr("pgjax.training.training_plan.this_device", lambda: small)
    with pytest.raises(UserError, match=r"does not fit into memory.\n\nBatch 8 × 1 image"):
        check_fits(builder(variant="tiny"), parse_config(config(variant="tiny")))
    monkeypatch.undo()
    check_fits(builder(variant="tiny"), parse_config(config(variant="tiny")))


@pytest.mark.parametrize(
    ("precision", "wanted"),
    [
        (BFLOAT16, ("bfloat16", "bfloat16", "bfloat16")),
        (FLOAT16, ("float16", "float32", "float16")),
    ],
)
def test_precision_of_a_device(precision, wanted):
    c = resolved(parse_config(config()), precision)
    assert (c.model.img_dtype, c.model.llm_dtype, c.frozen_dtype) == wanted


@pytest.mark.parametrize(
    ("mode", "changes", "scaled"),
    [
        ("full", {}, False),
        ("full", {"model.img_dtype": "float16"}, True),
        ("freeze_vit", {"model.img_dtype": "float16"}, True),  # through the tower's head
        ("attention", {"model.llm_dtype": "float16"}, True),
        ("attention", {"trainable_dtype": "float16"}, True),
    ],
)
def test_when_the_loss_is_scaled(mode, changes, scaled):
    p = builder(mode, "tiny", **changes)
    assert p.scaled == scaled
    assert (p.abstract()[0].scale is not None) == scaled


def test_quantized_parameters_count_as_their_codes():
    p = builder("qlora")
    _, frozen = p.abstract()
    codes = [x for x in jax.tree.leaves(frozen) if x.dtype == jnp.uint8]
    assert sum(x.size for x in codes) * 2 == 1_981_808_640


def test_the_length_of_texts_must_be_known():
    with pytest.raises(UserError, match=r"texts of unknown tokens.*for_training"):
        estimate_memory(builder(variant="tiny", **{"input.pp": "decode"}))


@pytest.mark.slow
def test_plans_meshes_that_are_not_there(command, tmp_path):
    """16 devices, of which this process has one, and whose compiler does not matter here."""
    done = command(
        "-m", "pgjax.train", "--config=transfers/forkme.py:variant=tiny", "--plan",
        "--config.input.batch_size=16", "--device=v4", "--mesh=data=16",
        f"--json={tmp_path / 'plan.json'}",
    )  # fmt: skip
    assert "on 16 × v4 (data 16 × model 1)" in done.stdout and "It fits" in done.stdout
    assert "1,000 examples take" in done.stdout
    figures = json.loads((tmp_path / "plan.json").read_text())
    assert figures["mesh"] == {"data": 16, "model": 1} and figures["fits"]
    assert figures["collective_bytes"]["all-gather"] > 0 and figures["seconds"]["network"] > 0
    done = command(
        "-m", "pgjax.train", "--config=transfers/forkme.py:variant=tiny", "--plan",
        "--mesh=data=x", check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "expected sizes such as data=8" in done.stderr


@pytest.mark.slow
def test_a_trace_of_chosen_steps(command, tmp_path):
    command(
        "-m", "pgjax.train", "--config=transfers/forkme.py:variant=tiny,steps=3",
        f"--config.input.data.fname={PHOTOS / 'photos.jsonl'}", "--config.input.batch_size=2",
        "--config.evals={}", "--profile=2-3", f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert list((tmp_path / "run" / "tb").glob("plugins/profile/*/*.xplane.pb"))
