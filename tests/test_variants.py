"""Every transfer as every variant of the model: it builds, and it plans from shapes."""

import dataclasses
import functools
import math
import statistics

import jax
import pytest
from benchmarks.rows import ROWS

from pgjax.benchmarks.published import PUBLISHED
from pgjax.checkpoints import released
from pgjax.commands import config_files
from pgjax.config import MeshConfig, check_training, parse_config
from pgjax.config.init_sizes import variants_of
from pgjax.devices.data_sheets import get_device
from pgjax.devices.precision import resolved
from pgjax.errors import UserError
from pgjax.loading.model_context import open_sharded_model
from pgjax.recipes.paligemma2_rates import GENERAL, RATES, SIZES, STATED, learning_rate
from pgjax.recipes.transfer import VARIANTS
from pgjax.training.step_builder import make_step_builder
from pgjax.training.step_memory import estimate_memory

TRAINED = [name for name, row in ROWS.items() if row.trains]
# Parameters at 224 px.
COUNTS = {
    "3b": 2_923_335_408, "pg2-3b": 3_032_094_960, "pg2-10b": 9_662_409_456,
    "pg2-28b": 27_650_192_112, "tiny": 746_304, "pg2-tiny": 760_704,
}  # fmt: skip

read_config = functools.cache(config_files.read_config)  # no test changes what it returns


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_transfer_builds(variant):
    tiny = variant.endswith("tiny")
    for name in ["forkme", *ROWS]:
        for res in (0,) if name == "forkme" else (224,) if tiny else ROWS[name].res:
            text = f"{name}:variant={variant}" + (f",res={res}" if res else "")
            config = read_config(text)
            assert config.model.llm.variant == VARIANTS[variant]["llm"]["variant"]
            assert config.model.llm.get("final_softcap", 0.0) == 0.0
            assert config.model.res == (64 if tiny else res or 224)
            if not tiny:
                assert released.get(config.init).res == config.model.res
                assert variants_of(config.init)["llm"] == config.model.llm.variant
            if name in TRAINED:
                check_training(parse_config(config))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_transfer_plans(variant):
    device = get_device("h100")
    sharded = None
    for name in ("forkme", *TRAINED):
        res = "" if name == "forkme" else ",res=224"
        config = parse_config(read_config(f"{name}:variant={variant}{res}"))
        config = dataclasses.replace(config, mesh=MeshConfig(data=1, model=1))
        config = resolved(config, device.precision)
        sharded = sharded or open_sharded_model(config, jax.devices()[:1])
        assert sum(map(math.prod, sharded.shapes.values())) == COUNTS[variant]
        builder = make_step_builder(dataclasses.replace(sharded, config=config), 1000)
        needs = estimate_memory(builder)
        assert (needs.frozen > 0) == (dict(config.trainable) != {".*": True}), name
        assert needs.trainable + needs.frozen >= 2 * COUNTS[variant]
        assert needs.optimizer == 2 * needs.trainable and needs.batch > 0


@pytest.mark.parametrize("size", SIZES)
def test_rates_of_paligemma_2(size):
    """Those of the table or as stated; other numbers are PaliGemma's at 224 px, at 448 px too."""
    assert RATES.keys() | STATED.keys() <= set(TRAINED) and not RATES.keys() & STATED.keys()
    general = statistics.median(rates[SIZES.index(size)] for rates in RATES.values())
    assert GENERAL[SIZES.index(size)] == general
    assert read_config(f"forkme:variant={size}").optimizer.lr == general
    for name in TRAINED:
        theirs = read_config(f"{name}:variant=3b,res=224")
        for res in ROWS[name].res:
            ours = read_config(f"{name}:variant={size},res={res}")
            rate = learning_rate(size, name)
            if res == 896:
                theirs = read_config(f"{name}:variant=3b,res=896")
                rate = min(rate, theirs.optimizer.lr)
            assert ours.optimizer.lr == rate
            for key in ("input.batch_size", "optimizer.weight_decay", "label_smoothing",
                        "total_epochs", "total_steps", "model.llm.dropout", "adapt"):  # fmt: skip
                assert _value(ours, key) == _value(theirs, key), (name, res, key)


def _value(config, key):
    for part in key.split("."):
        config = config[part]
    return config


def test_init_names_the_variant():
    config = read_config("vqav2:init=paligemma2-10b-pt-448,res=448")
    assert config.model.llm.variant == "gemma2_9b" and config.optimizer.lr == 1e-6
    with pytest.raises(UserError, match="whose llm is of the variant 'gemma_2b'"):
        read_config("vqav2:variant=pg2-3b,init=pt-224")


def test_scores_stand_beside_those_of_the_same_family():
    def published(text):
        return {spec.get("published", "") for spec in read_config(text).evals.values()} - {""}

    assert published("docvqa") == {"docvqa", "docvqa_val"}
    assert published("docvqa:variant=pg2-10b") == {"pg2-10b_docvqa_val"}
    assert published("docvqa:init=paligemma2-3b-mix-448,res=448") == set()
    assert published("mmvp:init=mix-224") == {"mix_mmvp"}
    assert len(published("refcoco_seg")) == len(published("refcoco_seg:variant=pg2-28b")) == 8
    assert published("countbenchqa") == {"countbenchqa"}


@pytest.mark.parametrize("size", SIZES)
def test_pg2_scores_measures_every_published_score(size):
    named = set()
    for res in (224, 448, 896):
        configs = config_files.read_configs([f"pg2_scores:variant={size},res={res},runs=runs/pg2"])
        for text, config in configs.items():
            assert config.init.startswith("runs/pg2/") and config.model.res == res, text
            named |= {spec.get("published", "") for spec in config.evals.values()}
    assert named - {""} == {name for name in PUBLISHED if name.startswith(f"{size}_")}
