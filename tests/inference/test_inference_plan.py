"""The plan of inference: sizes without weights, and what a token reads."""

import json

import jax
import pytest

from pgjax.devices.data_sheets import get_device
from pgjax.devices.targets import target_devices
from pgjax.errors import UserError
from pgjax.inference import inference_plan as plans
from pgjax.inference.inference_plan import plan_inference
from pgjax.inference.load import load
from pgjax.loading.model_context import for_answering, open_sharded_model


def test_what_a_checkpoint_needs():
    """Against the arrays of the loaded one, with the rates of a T4."""
    found = plan_inference("tiny", get_device("v4"), rows=2, max_new_tokens=64)
    r = found.report
    model = load("tiny")
    loaded = sum(x.nbytes for x in jax.tree.leaves(model.params))
    assert r["parameters_bytes"] == loaded
    assert r["compiler"] == "cpu" and r["fits"] and "It fits" in found.text
    # Keys and values of 64 image tokens, 64 of the prompt and 64 of the answer; beside them, what
    # is valid, and two counters.
    tokens, llm = 64 + 64 + 64, model.context.model.llm_config
    values = 2 * llm.depth * 2 * tokens * llm.num_kv_heads * llm.head_dim
    assert r["cache_tokens"] == tokens
    assert r["cache_bytes"] == values * 2 + 2 * tokens + 2 * 4 + 4  # bfloat16
    decoder = sum(x.nbytes for n, x in model.params.items() if n.startswith("llm/"))
    assert r["bytes_per_token"] > 0.9 * decoder
    products = sum(
        2 * 2 * x.size // 1 for n, x in _shapes(model).items() if n.startswith("llm/layers")
    )
    assert r["flops"]["token"] >= products
    assert r["tokens_per_second_at_most"] == 2 / (r["bytes_per_token"] / 1228e9)
    assert r["answer_seconds_at_least"] > 63 * r["bytes_per_token"] / 1228e9


def _shapes(model):
    return {n: jax.ShapeDtypeStruct(s, "float32") for n, s in model.context.shapes.items()}


def test_quantized_parameters_count_as_their_codes():
    plain, small = (
        plan_inference("tiny", get_device("v4"), quantize=q).report for q in (None, "nf4")
    )
    assert small["parameters_bytes"] < 0.75 * plain["parameters_bytes"]
    loaded = load("tiny", quantize="nf4")
    assert small["parameters_bytes"] == sum(x.nbytes for x in jax.tree.leaves(loaded.params))


@pytest.mark.parametrize(
    ("name", "parameters", "dtype"),
    [
        ("mix-224", 2_923_335_408, "float32"),
        ("ft-vqav2-448.bf16", 2_924_220_144, "bfloat16"),
        ("pt-224.f16", 2_923_335_408, "float16"),
        ("paligemma2-3b-mix-448", 3_032_979_696, "bfloat16"),
    ],
)
def test_released_names_tell_sizes(name, parameters, dtype, monkeypatch):
    """Nothing is read or downloaded."""
    monkeypatch.setattr(plans, "open_checkpoint", None)
    source = plans._source(name, None)
    sharded = open_sharded_model(
        for_answering(source.config, {"data": 1, "model": 1}), jax.devices()[:1]
    )
    sizes = {n: jax.ShapeDtypeStruct(s, "float32").size for n, s in sharded.shapes.items()}
    assert sum(sizes.values()) == parameters
    stored = source.storage(sharded)
    assert stored["llm/layers/mlp/linear"] == dtype
    assert stored["llm/final_norm/scale"] == stored["img/head/bias"] == "float32"


def test_an_unknown_name():
    with pytest.raises(UserError, match="mix-225"):
        plan_inference("mix-225", get_device("t4"))


def test_a_plan_for_a_gpu_is_by_its_compiler():
    if target_devices(get_device("t4"), 1) is None:
        pytest.skip("needs the extra cuda12 or cuda13")
    with jax.numpy_dtype_promotion("standard"):
        assert plan_inference("tiny", get_device("t4")).report["compiler"] == "cuda"


@pytest.mark.slow
def test_the_command(command, tmp_path):
    done = command(
        "-m", "pgjax.predict", "--plan", "--checkpoint=tiny", "--device=v4",
        f"--json={tmp_path / 'plan.json'}",
    )  # fmt: skip
    assert "tokens/s" in done.stdout
    assert json.loads((tmp_path / "plan.json").read_text())["device"] == "v4"
