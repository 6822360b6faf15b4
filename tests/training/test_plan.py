"""The memory plan: full-size figures, verdicts, and runs that stop before they load."""

import jax
import jax.numpy as jnp
import pytest
from conftest import PHOTOS

from pgjax.errors import UserError
from pgjax.devices.precision import BFLOAT16, FLOAT16, resolved
from pgjax.inference.session import open_layout
from pgjax.recipes import adapted, lighter, transfer
from pgjax.devices.table import Device, get_device
from pgjax.training.memory import host_bytes, moments, nbytes, needs
from pgjax.training.plan import check_fits, describe, plan
from pgjax.training.program import make_program

GIB = 2**30


def config(mode="", variant="3b", batch_size=8, **changes):
    c = transfer(
        "planned", train={}, evals={}, prompt="", target="", variant=variant, mode=mode,
        text_len=128, steps=64, batch_size=batch_size, lr=1e-5,
    )  # fmt: skip
    c.update_from_flattened_dict(changes)
    return adapted(c, changes)


def program(*args, precision=None, **kwargs):
    c = resolved(config(*args, **kwargs).to_dict(), precision)
    return make_program(open_layout(c), c["total_steps"])


def test_the_t4_recipe_at_full_size():
    """What trains, in what precision, and what the optimizer keeps of it: nothing."""
    p = program("attention")
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
    p = program("attention", batch_size=batch, **{"model.res": res})
    with jax.numpy_dtype_promotion("standard"):  # flax's norms promote float16 parameters
        assert needs(p).peak <= 9 * GIB


def test_parts_of_full_tuning():
    p = program(**{"optimizer.name": "adam"})
    n = needs(p, compiled=False)
    parameters = 4 * 2_923_335_408
    assert (n.trainable, n.optimizer, n.gradients) == (parameters, 2 * parameters, parameters)
    assert n.batch == 8 * (224 * 224 * 3 + 3 * 128) * 4
    assert n.peak >= 4 * parameters  # parameters, two moments, gradients


def test_what_a_plan_says():
    tiny = Device("tiny", 2**20, BFLOAT16)
    c = config("full", "tiny", 16)
    text, fits = plan(c.to_dict(), {k: v.to_dict() for k, v in lighter(c).items()}, tiny)
    assert not fits and "does NOT fit" in text
    assert "--config.grad_accum_steps=2" in text and "--config.adapt=attention" in text
    assert "Computes in float32" in text  # what the variant asks for wins over the device
    p = program("full", "tiny", 16)
    n = needs(p)  # the same program, compiled once
    assert n.temporaries > n.gradients and n.peak == n.arguments + n.temporaries
    assert "It fits" in describe(p, n, get_device("t4"))


def test_a_run_that_cannot_fit_stops(monkeypatch):
    """With the plan in its message, and nothing loaded."""
    small = Device("cpu", 2**20, BFLOAT16)
    monkeypatch.setattr("pgjax.training.plan.this_device", lambda: small)
    with pytest.raises(UserError, match=r"does not fit into memory.\n\nBatch 8 × 1 image"):
        check_fits(program(variant="tiny"), {})
    monkeypatch.undo()
    check_fits(program(variant="tiny"), {})


@pytest.mark.parametrize(
    ("precision", "wanted"),
    [
        (BFLOAT16, ("bfloat16", "bfloat16", "bfloat16")),
        (FLOAT16, ("float16", "float32", "float16")),
    ],
)
def test_precision_of_a_device(precision, wanted):
    c = resolved(config().to_dict(), precision)
    assert (c["model"]["img_dtype"], c["model"]["llm_dtype"], c["frozen_dtype"]) == wanted


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
    p = program(mode, "tiny", **changes)
    assert p.scaled == scaled
    assert (p.abstract()[0].scale is not None) == scaled


def test_quantized_parameters_count_as_their_codes():
    p = program("qlora")
    _, frozen = p.abstract()
    codes = [x for x in jax.tree.leaves(frozen) if x.dtype == jnp.uint8]
    assert sum(x.size for x in codes) * 2 == 1_981_808_640


def test_devices():
    with pytest.raises(UserError, match="--device 'a100' is unknown"):
        get_device("a100")
    assert get_device("t4").precision == FLOAT16 and get_device("l4").precision == BFLOAT16
    assert get_device("t4").usable_bytes < 16e9


def test_the_length_of_texts_must_be_known():
    with pytest.raises(UserError, match=r"texts of unknown tokens.*for_training"):
        needs(program(variant="tiny", **{"input.pp": "decode"}), compiled=False)


@pytest.mark.slow
def test_plans_meshes_that_are_not_there(command):
    """16 devices, of which this process has one."""
    done = command(
        "-m", "pgjax.train", "--config=transfers/forkme.py:variant=tiny", "--plan",
        "--config.input.batch_size=16", "--device=v5e", "--mesh=data=16",
    )  # fmt: skip
    assert "on 16 × v5e (data 16 × model 1)" in done.stdout and "It fits" in done.stdout
    done = command(
        "-m", "pgjax.train", "--config=transfers/forkme.py:variant=tiny", "--plan",
        "--mesh=data=x", check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "expected sizes such as data=8" in done.stderr


@pytest.mark.slow
def test_a_trace_of_chosen_steps(command, tmp_path):
    command(
        "-m", "pgjax.train", "--config=transfers/forkme.py:variant=tiny,steps=3",
        f"--config.input.data.fname={PHOTOS / 'photos.jsonl'}", "--config.input.batch_size=2",
        "--config.evals={}", "--profile=2-3", f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert list((tmp_path / "run" / "tb").glob("plugins/profile/*/*.xplane.pb"))
