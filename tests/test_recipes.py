"""Configs: unknown keys, arguments, and the expanded configs pinned to `tests/configs/`.

After a change that is meant, write the pins anew and read their difference:

    PGJAX_REGENERATE=1 python -m pytest tests/test_recipes.py
    git diff tests/configs
"""

import importlib.util
import json
import os

import pytest
from conftest import ROOT, TESTS
from ml_collections import ConfigDict

from pgjax import trees
from pgjax.config import RunConfig, parse_config, to_dict
from pgjax.errors import UserError
from pgjax.recipes import MODES, adapted, default_config, parse_arg, transfer

PINNED = {
    "forkme": ("transfers/forkme.py", None),
    "forkme_448": ("transfers/forkme.py", "res=448,steps=70"),
    "forkme_attention": ("transfers/forkme.py", "mode=attention,steps=64"),
    "forkme_qlora": ("transfers/forkme.py", "mode=qlora,steps=64"),
    "forkme_pg2": ("transfers/forkme.py", "variant=pg2-10b,res=448"),
    "forkme_tiny": ("transfers/forkme.py", "variant=tiny"),
    "quickstart": ("configs/quickstart.py", None),
    "quickstart_scratch": ("configs/quickstart.py", "scratch,steps=10"),
}


def get_config(path, arg):
    spec = importlib.util.spec_from_file_location("config_under_test", ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(arg)


@pytest.mark.parametrize("name", PINNED)
def test_pinned(name):
    config = adapted(get_config(*PINNED[name]))
    parse_config(config)
    path = TESTS / "configs" / f"{name}.json"
    got = json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n"
    if os.environ.get("PGJAX_REGENERATE"):
        path.write_text(got)
    assert json.loads(got) == json.loads(path.read_text()), (
        "if the change is meant: PGJAX_REGENERATE=1 python -m pytest tests/test_recipes.py"
    )


def test_every_pin_has_its_config():
    assert {p.stem for p in (TESTS / "configs").glob("*.json")} == set(PINNED)


@pytest.mark.parametrize("name", PINNED)
def test_a_config_survives_json(name):
    """As it must, to be stored in a workdir; only tuples become lists."""
    config = get_config(*PINNED[name]).to_dict()

    def listed(x):
        if isinstance(x, dict):
            return {k: listed(v) for k, v in x.items()}
        return [listed(v) for v in x] if isinstance(x, tuple | list) else x

    assert json.loads(json.dumps(config)) == listed(config)


def test_forkme_is_the_published_recipe():
    """Its row of the table of transfers, and what all transfers share."""
    c = get_config("transfers/forkme.py", None)
    assert (c.total_epochs, c.total_steps, c.input.batch_size) == (15, 0, 32)
    assert (c.optimizer.lr, c.optimizer.weight_decay) == (1e-5, 3e-7)
    assert (c.optimizer.name, c.optimizer.args.b2, c.optimizer.grad_clip_norm) == (
        "adam", 0.999, 1.0,
    )  # fmt: skip
    assert (c.schedule.decay, c.schedule.warmup_percent) == ("cosine", 0.05)
    assert dict(c.optimizer.decay_rules) == {"img/.*/kernel": 1.0, ".*": 0.0}
    assert c.init == "pt-224" and get_config("transfers/forkme.py", "res=448").init == "pt-448"
    assert "for_training(128" in c.input.pp and "'caption en'" in c.input.pp


def test_a_detector_by_one_argument():
    c = get_config("transfers/forkme.py", "detection=20")
    assert (c.total_epochs, c.evals.answers.metric.name) == (50, "mean_average_precision")
    assert "'detect all classes'" in c.input.pp and "|for_detection(212, 20, " in c.input.pp
    assert c.evals.val.pp.endswith("|for_detection(212, 20, on_truncate='error')")
    assert c.answering.objects == c.evals.answers.objects == 20
    assert c.evals.answers.max_new_tokens == 212 and "objects" not in c.evals.val
    plain = get_config("transfers/forkme.py", None)
    assert "objects" not in plain.evals.answers and "objects" not in plain.answering
    assert get_config("transfers/forkme.py", "detection=20,steps=9").total_epochs == 0


def test_one_flag_sets_every_file_name():
    c = get_config("transfers/forkme.py", "variant=tiny")
    c.input.data.fname = "mine.jsonl"
    assert {spec.data.fname for spec in c.evals.values()} == {"mine.jsonl"}


def make_transfer(**kwargs):
    required = {
        "train": {"name": "jsonl", "fname": "x"},
        "evals": {
            "a": {"kind": "answers", "data": {"name": "jsonl", "fname": "x"}},
            "p": {"kind": "perplexity", "data": {"name": "jsonl", "fname": "x"}, "batch_size": 3},
        },
        "prompt": "strfmt('answer en {q}', 'prefix')",
        "target": "choice('answers', 'suffix')",
        "variant": "tiny",
        "text_len": 32,
        "batch_size": 8,
        "lr": 1e-3,
    }
    return transfer("mine", **{**required, **kwargs})


def test_training_evaluation_and_answering_are_prepared_alike():
    c = make_transfer(augment="flip()", on_truncate="drop")
    image = "resize(64, antialias=True)|value_range(-1, 1)"
    prompt, target = "strfmt('answer en {q}', 'prefix')", "choice('answers', 'suffix')"
    learn = "for_training(32, on_truncate='drop')"
    assert c.input.pp == (
        f"decode|flip()|{image}|{prompt}|{target}|{learn}|"
        "keep('image', 'text', 'mask_ar', 'mask_loss')"
    )
    assert c.evals.a.pp == f"decode|{image}|{prompt}|{target}|for_answering(32)"  # no flips
    assert c.evals.p.pp == f"decode|{image}|{prompt}|{target}|{learn}"
    assert c.answering.to_dict() == {
        "image": f"decode|{image}", "prompt": prompt, "text": "for_answering(32)",
    }  # fmt: skip
    assert (c.evals.a.batch_size, c.evals.p.batch_size) == (8, 3)
    assert c.evals.a.max_new_tokens == 32 and "max_new_tokens" not in c.evals.p


def test_what_a_transfer_passes_on():
    c = make_transfer(
        epochs=3, weight_decay=1e-6, label_smoothing=0.2, dropout=0.1, res=96, variant="3b"
    )
    assert (c.total_epochs, c.total_steps, c.name) == (3.0, 0, "mine")
    assert (c.optimizer.weight_decay, c.label_smoothing) == (1e-6, 0.2)
    assert c.model.llm.to_dict() == {"variant": "gemma_2b", "dropout": 0.1}
    assert (c.model.res, c.init, c.tokenizer) == (96, "pt-96", "gemma")
    with pytest.raises(UserError, match=r"variant '2b' is unknown.*3b.*tiny"):
        make_transfer(variant="2b")


def test_transfers_do_not_share_what_they_change():
    first = make_transfer()
    first.model.img.variant = "changed"
    assert make_transfer().model.img.variant == "tiny/8"
    assert default_config().model.img.variant == "So400m/14"


def test_the_default_config_is_that_of_the_dataclasses():
    assert default_config().to_dict() == to_dict(RunConfig())
    assert parse_config(default_config()) == RunConfig()


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("lerning_rate", "config."),
        ("label_smothing", "config.label_smoothing"),
        ("lr", "config.optimizer.lr"),
        ("batch_size", "config.input.batch_size"),
        ("optimizer.weigth_decay", "config.optimizer.weight_decay"),
        ("schedule.warmup", "config.schedule.warmup_steps"),
        ("model.ress", "config.model.res"),
    ],
)
def test_unknown_keys(key, nearest):
    config = default_config()
    *section, name = key.split(".")
    place = config[section[0]] if section else config
    with place.unlocked():
        place[name] = 1
    with pytest.raises(UserError, match=rf"^config\.{key} is not a known key; .*{nearest}"):
        parse_config(config)


def test_keys_that_are_not_there_have_their_defaults():
    config = default_config()
    with config.unlocked():
        del config["seed"]
        del config.schedule["decay"]
    assert parse_config(config) == parse_config(ConfigDict()) == RunConfig()


DEFAULTS = {"variant": "3b", "res": 0, "lr": 1e-3, "scratch": False}


@pytest.mark.parametrize(
    ("arg", "changed"),
    [
        (None, {}),
        ("", {}),
        ("variant=tiny", {"variant": "tiny"}),
        ("res=448,lr=3e-5", {"res": 448, "lr": 3e-5}),
        ("scratch", {"scratch": True}),
        ("scratch=true,res=1", {"scratch": True, "res": 1}),
        ("scratch=False", {"scratch": False}),
        ("lr=1", {"lr": 1.0}),
        ("variant=a=b", {"variant": "a=b"}),
    ],
)
def test_parse_arg(arg, changed):
    got = parse_arg(arg, **DEFAULTS).to_dict()
    assert got == {**DEFAULTS, **changed}
    assert {k: type(v) for k, v in got.items()} == {k: type(v) for k, v in DEFAULTS.items()}


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("varient=tiny", r"'varient' is unknown.*'lr', 'res', 'scratch', 'variant'"),
        ("tiny", "'tiny' is unknown"),
        ("res=big", r"'res=big': expected res=<int>"),
        ("res=1.5", r"expected res=<int>"),
        ("res=", r"expected res=<int>"),
        ("lr=", r"expected lr=<float>"),
        ("scratch=maybe", r"expected scratch=<bool>"),
        ("variant", r"expected variant=<str>"),
        ("res", r"expected res=<int>"),
        ("lr", r"expected lr=<float>"),
    ],
)
def test_parse_arg_errors(arg, message):
    with pytest.raises(UserError, match=message):
        parse_arg(arg, **DEFAULTS)


NAMES = (
    "img/Transformer/encoderblock/MlpBlock_0/Dense_0/kernel",
    "img/embedding/kernel",
    "img/pos_embedding",
    "img/head/kernel",
    "llm/embedder/input_embedding",
    "llm/layers/attn/q_einsum/w",
    "llm/layers/mlp/linear",
)


@pytest.mark.parametrize(
    "mode, trained",
    [
        ("full", NAMES),
        ("freeze_vit", NAMES[3:]),
        ("freeze_llm", NAMES[:4]),
        ("projector", NAMES[3:4]),
        ("attention", NAMES[5:6]),
        ("llm/layers/mlp/.*", NAMES[6:]),
    ],
)
def test_what_a_mode_trains(mode, trained):
    config = adapted(make_transfer(mode=mode))
    parse_config(config)
    values = trees.first_match(config.trainable, NAMES, what="trainable")
    assert [name for name, value in values.items() if value] == list(trained)


def test_flags_win_over_a_mode():
    config = make_transfer(mode="attention")
    config.optimizer.lr, config.frozen_dtype = 0.5, "float32"
    out = adapted(config, {"optimizer.lr": 0.5, "frozen_dtype": "float32"})
    assert out.optimizer.lr == 0.5 and out.frozen_dtype == "float32"
    assert out.optimizer.name == "sgd" and out.optimizer.grad_clip_norm == 0.0
    assert out.model.img_dtype == config.model.img_dtype  # what suits the device is not the mode's
    assert config.optimizer.name == "adam"  # the original stays


def test_a_mode_that_does_not_exist():
    assert "attention" in MODES
    with pytest.raises(UserError, match="'atention'; .*'attention' is the nearest"):
        adapted(make_transfer(mode="atention"))
