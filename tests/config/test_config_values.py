"""Every key of a config × wrong type, out of range, nan, infinity, empty and unknown: one sentence.

Cases are made from the schema's own listing. What the listing must hold is written by hand: the
limits of every number, the choices, and the messages of the mistakes that people make.
"""

import collections
import copy
import dataclasses
import math
import re
import sys
import typing

import pytest
from conftest import ROOT
from ml_collections import ConfigDict

from pgjax.config import RunConfig, check_training, parse_config, reference, to_dict
from pgjax.errors import ConfigError, UserError
from pgjax.recipes import adapted, default_config
from pgjax.schema import Entry, describe, parse_value

NAN, INF = math.nan, math.inf
PP = "decode|resize(64, antialias=True)|value_range(-1, 1)"
JSONL = {"name": "jsonl", "fname": "x.jsonl"}
EVAL = {"kind": "answers", "data": JSONL, "pp": f"{PP}|for_answering(16)"}
SOURCES = {
    "jsonl": {"fname": "x.jsonl"},
    "parquet": {"fname": "x.parquet"},
    "datasets": {"fname": "x"},
    "webdataset": {"fname": "x.tar"},
    "memory": {"rows": "x"},
    "tfds": {"dataset": "x", "split": "train"},
    "prepared": {"dataset": "x", "split": "train"},
    "scenes": {},
}

# By hand: the nearest values outside of each number's range. Every number must be here.
OUTSIDE = {
    "seed": (-1, 2**32),
    "model.res": (0, 16385),
    "model.lora.rank": (-1, 2049),
    "model.lora.alpha": (0, 1e6 + 1),
    "model.lora.dropout": (-1e-9, 1),
    "total_steps": (-1, 10**9 + 1),
    "total_epochs": (-1e-9, 1e6 + 1),
    "input.mixture.NAME.weight": (0, -1.0, 2e9),
    "input.batch_size": (0, 2**20 + 1),
    "input.workers": (-1, 1025),
    "input.threads": (0, 1025),
    "input.prefetch": (-1, 10**9),
    "optimizer.lr": (-1e-9,),
    "optimizer.weight_decay": (-1e-9,),
    "optimizer.grad_clip_norm": (-1e-9,),
    "optimizer.args.b1": (-1, 1),
    "optimizer.args.b2": (-1, 1),
    "optimizer.args.eps": (-1,),
    "optimizer.args.eps_root": (-1,),
    "optimizer.args.min_dim_size_to_factor": (0,),
    "optimizer.args.decay_rate": (0, 1.1),
    "optimizer.args.clipping_threshold": (0,),
    "optimizer.args.momentum": (-0.1, 1),
    "schedule.warmup_percent": (-0.5, 1.1),
    "schedule.warmup_steps": (-1, 10**9 + 1),
    "schedule.cooldown_steps": (-1, 10**9 + 1),
    "schedule.linear_end": (-1, 1.1),
    "schedule.timescale": (0, -1),
    "schedule.first_step": (-1, 10**9 + 1),
    "label_smoothing": (-1e-9, 1, 2),
    "loss_chunk": (0, 65537),
    "grad_accum_steps": (0, 2**20 + 1),
    "answering.objects": (-1, 4097),
    "reward.samples": (1, 1025),
    "reward.kl": (-1e-9, 1e3 + 1),
    "mesh.data": (0, -2, 2**20 + 1),
    "mesh.model": (0, -2, 2**20 + 1),
    "evals.NAME.batch_size": (0, 2**20 + 1),
    "evals.NAME.every": (-1, 10**9 + 1),
    "evals.NAME.max_new_tokens": (0, 65537),
    "evals.NAME.objects": (-1, 4097),
    "evals.NAME.seed": (-1, 2**32),
    "evals.NAME.max_examples": (0, 10**12 + 1),
    "evals.NAME.workers": (-1, 1025),
    "log_every": (0, 10**9 + 1),
    "checkpoint_every": (-1, 10**9 + 1),
    "checkpoint_minutes": (-0.5, 10**6 + 1),
    "keep_last": (0, 10**6 + 1),
    "keep_every": (-1, 10**9 + 1),
    "early_stopping.patience": (-1, 10**9 + 1),
    "input.data.size": (0, 31),
    "input.data.seed": (-1,),
    "input.data.num_examples": (-1,),
    "input.data.max_shapes": (0, 5),
    **{
        f"model.{tower}.{size}": (0, -1)
        for tower in ("img", "llm")
        for size in ("width", "depth", "mlp_dim", "num_heads")
    },
    "model.img.dropout": (-0.1, 1),
    "model.llm.num_kv_heads": (0,),
    "model.llm.head_dim": (1,),
    "model.llm.vocab_size": (0,),
    "model.llm.norm_eps": (0,),
    "model.llm.dropout": (-0.1, 1),
    "model.llm.attn_softcap": (-1,),
    "model.llm.final_softcap": (-1,),
    "model.llm.query_scale": (0,),
}  # fmt: skip
# By hand: keys of text that is not free, with text that must not be taken.
BAD_TEXT = {
    "name": ("",),
    "model.img_dtype": ("float64", ""),
    "model.llm_dtype": ("float64", ""),
    "model.remat": ("ful", ""),
    "model.attention": ("flash", ""),
    "model.lora.targets": ("(", "*"),
    "tokenizer": ("",),
    "adapt": ("(",),
    "trainable_dtype": ("auto", "int8", ""),
    "frozen_dtype": ("int8", ""),
    "quantize": ("int3",),
    "input.pp": ("x", "decode|", "decode|resize(1, 2, 3, 4)"),
    "input.on_bad_example": ("skipp", ""),
    "input.mixture.NAME.pp": ("x",),
    "answering.image": ("x", "lower('prefix')", ""),
    "answering.prompt": ("x",),
    "answering.text": ("x", "lower('prefix')", ""),
    "optimizer.name": ("adm", ""),
    "optimizer.args.mu_dtype": ("float64",),
    "optimizer.args.nu_dtype": ("float16",),
    "schedule.decay": ("cosin", ""),
    "sample_sheet": ("no_such_eval", "val"),
    "keep_best": ("acc", "NAME", "NAME/", "other/acc", "NAME/acc"),  # of the last, every is 0
    "early_stopping.metric": ("acc", "NAME/", "other/acc:max", "NAME/acc:min"),
    "evals.NAME.kind": ("answer", ""),
    "evals.NAME.pp": ("x", ""),
    "evals.NAME.sampler": (
        "beem", "beam(0)", "beam(1.5)", "nucleus(2)", "top_k(x)", "greedy(1)", "",
    ),
    "evals.NAME.on_bad_example": ("skipp",),
    "evals.NAME.submission": ("vqa3",),
    "evals.NAME.published": ("vqa3",),
    "evals.NAME.metric.name": ("exact", ""),
    "input.data.name": ("json", ""),
    "input.data.style": ("poor",),
    "input.data.wording": ("none",),
    "model.img.variant": ("So400m",),
    "model.llm.variant": ("gemma_3b",),
}  # fmt: skip


def base() -> dict:
    """A whole config, as a run directory stores it."""
    config = default_config()
    config.model.res = 64
    config.model.img, config.model.llm = (
        ConfigDict({"variant": "tiny/8"}),
        ConfigDict({"variant": "gemma_tiny"}),
    )
    config.total_steps = 1
    config.input.data, config.input.pp = ConfigDict(JSONL), f"{PP}|for_training(16)"
    config.answering = ConfigDict({"image": PP, "prompt": "", "text": "for_answering(16)"})
    config.evals = ConfigDict({"NAME": EVAL, "val": {**EVAL, "kind": "perplexity"}})
    return to_dict(parse_config(config))


BASE = base()


def base_for(key: reference.Key) -> dict:
    """A config in which the key can stand."""
    config = copy.deepcopy(BASE)
    what, _, names = key.of.partition(" ")
    name = names.split(",")[0]
    if what == "optimizer":
        config["optimizer"].update(name=name, args={})
    elif what == "source":
        config["input"]["data"] = {"name": name, **SOURCES[name]}
    elif what == "metric":
        config["evals"]["NAME"]["metric"] = {"name": name}
    elif key.name.startswith("input.mixture"):
        config["input"].update(data={}, mixture={"NAME": {"data": JSONL, "weight": 1.0, "pp": ""}})
    return config


def put(config: dict, key: str, value) -> dict:
    *path, last = key.split(".")
    node = config
    for part in path:
        node = node[part]
    node[last] = value
    return config


def optional(entry: Entry) -> bool:
    return type(None) in typing.get_args(entry.kind)


def may_be_none(key: reference.Key) -> bool:
    """Sizes of a tower that are None are those of its variant."""
    return optional(key.entry) or key.of.startswith("default:")


def plain_kind(entry: Entry):
    """bool, int, float, str, tuple or dict; None for a value that is not checked."""
    kinds = [k for k in typing.get_args(entry.kind) if k is not type(None)]
    kind = kinds[0] if optional(entry) and len(kinds) == 1 else entry.kind
    origin = typing.get_origin(kind)
    if origin is None:
        return kind if kind in (bool, int, float, str) else None
    return dict if origin is collections.abc.Mapping else tuple


WRONG = {
    bool: ("yes", "True", 1, 0, 1.0, NAN, [], {}, b"x"),
    int: ("1", "", 1.5, 2.0, True, False, NAN, INF, -INF, [], [1], {}, b"1"),
    float: ("1", "", True, NAN, INF, -INF, 10**400, [], [1.0], {}, 1j),
    str: (1, 1.5, NAN, True, [], ["x"], {}, b"x"),
    tuple: (5, NAN, True, "x", {"a": 1}),
    dict: (5, NAN, True, "x", [1], ["x", "y"]),
}


def bad_values(key: reference.Key):
    kind = plain_kind(key.entry)
    if kind is None:
        return
    yield from (("type", v) for v in WRONG[kind])
    if not may_be_none(key):
        yield "type", None
    yield from (("range", v) for v in OUTSIDE.get(key.name, ()) if kind in (int, float))
    yield from (("text", v) for v in BAD_TEXT.get(key.name, ()) if kind is str)
    if not key.entry.rule.empty:
        yield "empty", kind()


def refusal(config, key: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check_training(parse_config(config))
    message = str(caught.value)
    assert caught.value.status == 2
    assert "\n" not in message and message.endswith("."), message
    assert len(message) < 1000, message
    assert f"config.{key}" in message, message
    return message


KEYS = reference.all_keys()


def test_every_bad_value_of_every_key_is_one_sentence():
    counts, per_key = collections.Counter(), collections.Counter()
    for key in KEYS:
        for what, value in bad_values(key):
            message = refusal(put(base_for(key), key.name, value), key.name)
            assert "expected" in message or "missing" in message or ":" in message, message
            counts[what] += 1
            per_key[key.name] += 1
    print(f"\n{sum(counts.values())} bad values of {len(per_key)} keys: {dict(counts)}")
    assert counts["type"] > 1000 and counts["range"] > 100
    assert counts["text"] > 50 and counts["empty"] >= 6
    unchecked = {key.name for key in KEYS} - per_key.keys()
    assert unchecked == set(), unchecked
    assert min(per_key.values()) >= 5
    assert per_key.keys() >= set(OUTSIDE) | set(BAD_TEXT)


def test_every_number_has_its_limits_written_by_hand():
    """So that none is left without a range, and no range changes unseen."""
    numbers = {key.name for key in KEYS if plain_kind(key.entry) in (int, float)}
    assert numbers == set(OUTSIDE)


def test_the_nearest_values_inside_each_range_are_taken():
    count = 0
    for key in KEYS:
        rule, kind = key.entry.rule, plain_kind(key.entry)
        if kind not in (int, float):
            continue
        step = 1 if kind is int else 1e-9
        inside = [rule.at_least, rule.at_most, *rule.also]
        inside += [rule.above + step] if rule.above is not None else []
        inside += [rule.below - step] if rule.below is not None else []
        for value in filter(lambda x: x is not None, inside):
            assert parse_value(key.entry.kind, kind(value), key.name, rule) == value
            count += 1
    assert count > 80


def test_unknown_keys_of_every_section():
    sections = sorted({key.name.rpartition(".")[0] for key in KEYS})
    free = {"evals.NAME.data": "fname"}
    count = 0
    for section in [*sections, *free]:
        first = next((k for k in KEYS if k.name.rpartition(".")[0] == section), KEYS[0])
        where = f"{section}.xyzzy" if section else "xyzzy"
        message = refusal(put(base_for(first), where, 1), where)
        assert "is not a known key" in message, message
        count += 1
    print(f"\nunknown keys in {count} sections")
    assert count >= 14


def test_misspelt_keys_of_every_section_find_their_own():
    count = 0
    for key in KEYS:
        if key.of or len(key.name.rpartition(".")[2]) < 4 or ".img." in key.name:
            continue
        section, _, last = key.name.rpartition(".")
        misspelt = f"{last[:-2]}{last[-1]}{last[-2]}" if last[-1] != last[-2] else f"{last}s"
        where = f"{section}.{misspelt}" if section else misspelt
        message = refusal(put(base_for(key), where, 1), where)
        assert f"the nearest is config.{key.name}." in message, message
        count += 1
    assert count > 50


def test_every_key_of_the_default_config_is_listed_and_documented():
    def leaves(value, prefix=""):
        for name, x in value.items():
            dotted = f"{prefix}{name}"
            if isinstance(x, dict) and x and dotted not in free:
                yield from leaves(x, f"{dotted}.")
            else:
                yield dotted

    free = {"model.img", "model.llm", "optimizer.args", "reward.metric"}
    listed = {key.name for key in KEYS if not key.of}
    assert {*leaves(default_config().to_dict())} <= listed
    for key in KEYS:
        assert re.fullmatch(r"[A-Z$\"`a-z].*", key.entry.rule.doc), key.name
        assert describe(key.entry) in reference.text(key.name)
        assert f"`{key.name}`" in reference.markdown()


@pytest.mark.parametrize("asked", ["lr", "config.optimzer.lr", "nothing.like.it"])
def test_help_for_a_key_that_does_not_exist(asked):
    with pytest.raises(ConfigError, match="is not a known key"):
        reference.text(asked)


def test_help_for_a_section_and_for_names_of_ones_own():
    assert "config.schedule.timescale" in reference.text("schedule")
    assert "config.evals.NAME.every" in reference.text("evals.mine.every")
    assert "config.input.data.root" in reference.text("config.evals.mine.data.root")
    assert len(reference.text().splitlines()) == len(KEYS)


MISTAKES = {  # of issue and users: key, value -> the whole message
    ("model.llm", "{'variant': 'gemma_tiny', 'dropout': 1.5}"):
        "config.model.llm.dropout is 1.5; expected a finite number of at least 0 and below 1.",
    ("label_smoothing", 2):
        "config.label_smoothing is 2; expected a finite number of at least 0 and below 1.",
    ("optimizer.lr", -1): "config.optimizer.lr is -1; expected a finite number of at least 0.",
    ("total_epochs", -1): "config.total_epochs is -1; expected a finite number from 0 to 1000000.",
    ("checkpoint_every", -1):
        "config.checkpoint_every is -1; expected a whole number from 0 to 1000000000.",
    ("model.lora.alpha", NAN):
        "config.model.lora.alpha is nan; expected a finite number above 0 and at most 1000000.",
    ("model.lora.rank", 100000):
        "config.model.lora.rank is 100000; expected a whole number from 0 to 2048.",
    ("optimizer.weight_decay", NAN):
        "config.optimizer.weight_decay is nan; expected a finite number of at least 0.",
    ("schedule.warmup_percent", -0.5):
        "config.schedule.warmup_percent is -0.5; expected a finite number from 0 to 1.",
    ("schedule.timescale", 0): "config.schedule.timescale is 0; expected a finite number above 0.",
    ("evals.NAME.max_new_tokens", 0):
        "config.evals.NAME.max_new_tokens is 0; expected a whole number from 1 to 65536.",
    ("input.threads", 0): "config.input.threads is 0; expected a whole number from 1 to 1024.",
    ("input.prefetch", -1): "config.input.prefetch is -1; expected a whole number from 0 to 1024.",
    ("input.prefetch", 10**9):
        "config.input.prefetch is 1000000000; expected a whole number from 0 to 1024.",
    ("optimizer.args", "{'b1': -1}"):
        "config.optimizer.args.b1 is -1; expected a finite number of at least 0 and below 1.",
    ("optimizer.args", "{'eps': -1}"):
        "config.optimizer.args.eps is -1; expected a finite number of at least 0.",
    ("optimizer.args", "{'b2': 'x'}"):
        "config.optimizer.args.b2 is 'x'; expected a finite number of at least 0 and below 1.",
    ("optimizer.args", "{'betas': 1}"):
        "config.optimizer.args.betas is not a known key; config.optimizer.args takes b1, b2, eps, "
        "eps_root, mu_dtype, nu_dtype, nesterov.",
    ("trainable", 5):
        "config.trainable is 5; expected a list, not empty, of pairs (regular expression, True, "
        "False or a multiplier from 0 up).",
    ("trainable", '[["(", True]]'):
        "config.trainable[0][0] is '('; expected a regular expression (missing ), unterminated "
        "subpattern at position 0).",
    ("trainable", '[[".*", -1]]'):
        "config.trainable[0][1] is -1; expected True, False or a learning-rate multiplier from 0 "
        "up.",
    ("trainable", '[[".*", NAN]]'):
        "config.trainable[0][1] is nan; expected True, False or a learning-rate multiplier from 0 "
        "up.",
    ("sharding", '[[".*", "fdsp"]]'):
        "config.sharding[0][1] is 'fdsp'; expected one of 'replicate', 'fsdp', 'tensor', "
        "'fsdp+tensor', of which 'fsdp' is the nearest.",
    ("total_epochs", NAN):
        "config.total_epochs is nan; expected a finite number from 0 to 1000000.",
    ("grad_accum_steps", 0):
        "config.grad_accum_steps is 0; expected a whole number from 1 to 1048576.",
    ("input.workers", -1): "config.input.workers is -1; expected a whole number from 0 to 1024.",
    ("model.res", 0): "config.model.res is 0; expected a whole number from 1 to 16384.",
    ("model.res", 65): "config.model.res is 65; expected a multiple of the patch size 8.",
    ("seed", 10**20):
        "config.seed is 100000000000000000000; expected a whole number from 0 to 4294967295.",
    ("input.mixture", "{'a': {'data': {'name': 'jsonl', 'fname': 'x'}, 'weight': '1'}}"):
        "config.input.mixture.a.weight is '1'; expected a finite number above 0 and at most "
        "1000000000.",
    ("input.data", "{'name': 'jsonl', 'fname': 'x', 'rot': 'y'}"):
        "config.input.data.rot is not a known key; the nearest is config.input.data.root.",
    ("input.data", "{'name': 'jsonl'}"): "config.input.data.fname is missing; expected text.",
    ("input.data", "{'fname': 'x'}"):
        "config.input.data.name is missing; config.input.data is {'fname': 'x'}.",
    ("evals.NAME.metric", "{'name': 'anls', 'lower': 'yes'}"):
        "config.evals.NAME.metric.lower is 'yes'; expected True or False.",
    ("evals.NAME.sampler", "beam(0)"):
        "config.evals.NAME.sampler 'beam(0)': beam.beams is 0; expected a whole number from 1 to "
        "1024.",
    ("evals", "{'a/b': 1}"):
        "config.evals.'a/b' cannot be the name of an evaluation, which names files; expected "
        "letters, digits, '_', '-' and '.'.",
    ("evals.NAME.published", "vqa"):
        "config.evals.NAME.published is 'vqa'; expected one of 208 names, of which 'vqav2' is the "
        "nearest.",
    ("imports", "my_package"):
        "config.imports is 'my_package'; expected a list of module names.",
    ("answering.image", "lower('prefix')"):
        "config.answering.image is \"lower('prefix')\"; expected a pipeline that makes an image, "
        "by one of the ops ('decode', 'video').",
    ("answering.text", ""):
        "config.answering.text is ''; expected a pipeline, because the other of "
        "config.answering.image and config.answering.text is given.",
    ("sample_sheet", "val"):
        "config.sample_sheet is 'val'; expected the name of an evaluation of answers, of ['NAME'].",
    ("schedule.warmup_steps", 5):
        "config.schedule.warmup_steps 5 and cooldown_steps 0 do not fit into total_steps 1.",
    ("total_steps", 0):
        "config.total_steps is 0 and config.total_epochs is 0.0; expected exactly one of them "
        "above 0.",
    ("input.data", "{}"):
        "config.input.data and config.input.mixture are both empty; expected exactly one of "
        "them.",
    ("grad_accum_steps", 3):
        "config.input.batch_size is 32; expected a multiple of config.grad_accum_steps, which is "
        "3.",
    ("mesh.model", -1): "config.mesh.data and mesh.model are both -1; expected at most one.",
    ("input.pp", ""): "config.input.pp is ''; expected a pipeline that prepares an example.",
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), MISTAKES)
def test_messages(key, value):
    given = eval(value) if isinstance(value, str) and value[:1] in ("{", "[") else value
    config = copy.deepcopy(BASE)
    assert refusal(put(config, key, given), key.partition(".")[0]) == MISTAKES[key, value]


def test_an_unknown_op_is_named_with_its_key():
    message = refusal(put(copy.deepcopy(BASE), "answering.image", "x"), "answering.image")
    assert message.startswith("config.answering.image: op 1 (x)")


def test_modules_that_cannot_be_imported():
    with pytest.raises(UserError, match=r"config\.imports: the module 'no_such\.module'"):
        parse_config({"imports": ["no_such.module"]})


@pytest.mark.parametrize("given", [5, None, "x", [], [1]])
def test_what_is_no_config(given):
    with pytest.raises(ConfigError, match=r"^config is .*; expected a section with the keys"):
        parse_config(given)


def test_whole_numbers_are_numbers_and_lists_are_tuples():
    config = parse_config({"optimizer": {"lr": 1}, "trainable": [["a.*", 1], [".*", False]]})
    assert config.optimizer.lr == 1.0 and isinstance(config.optimizer.lr, float)
    assert config.trainable == (("a.*", 1.0), (".*", False))
    assert [type(value) for _, value in config.trainable] == [float, bool]


def test_numpy_scalars_are_numbers():
    numpy = pytest.importorskip("numpy")
    config = parse_config({"seed": numpy.int64(3), "optimizer": {"lr": numpy.float32(0.5)}})
    assert (config.seed, config.optimizer.lr) == (3, 0.5) and type(config.seed) is int
    with pytest.raises(ConfigError, match=r"config\.seed is True"):
        parse_config({"seed": numpy.bool_(True)})


def test_a_config_is_frozen_and_survives_its_dict():
    config = parse_config(BASE)
    assert parse_config(to_dict(config)) == config == parse_config(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 3


def test_options_of_optimizers_and_samplers_are_those_of_their_functions():
    """What is known without jax agrees with what jax-importing modules define."""
    import inspect

    import optax

    from pgjax.config import options
    from pgjax.decoding.decoders import make_decoder
    from pgjax.schema import entries
    from pgjax.training.optimizer import OPTIMIZERS

    assert set(options.OPTIMIZERS) == set(OPTIMIZERS)
    for name, section in options.OPTIMIZERS.items():
        function = OPTIMIZERS[name]
        parameters = dict(inspect.signature(function).parameters)
        if name in ("adam", "adamw"):
            parameters |= inspect.signature(optax.scale_by_adam).parameters
            del parameters["args"]
        known = {n: e.default for n, e in entries(section).items()}
        assert known == {n: p.default for n, p in parameters.items()}, name
    for text in ("greedy", "temperature(0.5)", "top_k(3)", "nucleus(0.5)", "beam(2)", "best_of(2)"):
        assert make_decoder(text)
        assert text.partition("(")[0] in options.SAMPLERS
    assert len(options.SAMPLERS) == 6


def test_choices_are_those_of_the_code():
    from pgjax import sharding
    from pgjax.config import sections
    from pgjax.models.attention import IMPLEMENTATIONS
    from pgjax.models.quantized import KINDS
    from pgjax.recipes import MODES
    from pgjax.training.schedules import DECAYS

    rules = {key.name: key.entry.rule for key in KEYS}
    assert set(rules["model.attention"].allowed()) == {"auto", *IMPLEMENTATIONS}
    assert set(rules["schedule.decay"].allowed()) == set(DECAYS)
    assert set(rules["quantize"].allowed()) == {"", *KINDS}
    assert sections.STRATEGIES == sharding.STRATEGIES
    assert all(mode in rules["adapt"].doc for mode in MODES)


def test_a_mode_of_adaptation_gives_a_config_that_is_taken():
    from pgjax.recipes import MODES

    for mode in MODES:
        config = ConfigDict(copy.deepcopy(BASE))
        config.adapt = mode
        check_training(parse_config(adapted(config)))


COMMANDS = {  # flag -> what its one line must say
    "optimizer.lr=-1": "config.optimizer.lr is -1",
    "optimizer.lr=nan": "config.optimizer.lr is nan",
    "label_smoothing=2.0": "config.label_smoothing is 2.0",
    "model.lora.rank=100000": "config.model.lora.rank is 100000",
    "model.llm.dropout=1.5": "config.model.llm.dropout is 1.5",
    "seed=100000000000000000000": "config.seed is 100000000000000000000",
    "input.prefetch=1000000000": "config.input.prefetch is 1000000000",
    "input.threads=0": "config.input.threads is 0",
    "grad_accum_steps=3": "config.input.batch_size is 32",
    "answering.image=x": "config.answering.image: op 1 (x)",
    "input.pp=decode|resise(3)": "config.input.pp: op 2 (resise(3))",
    "optimizer.name=adm": "config.optimizer.name is 'adm'",
    "optimizer.args.b2=-1.0": "config.optimizer.args.b2 is -1.0",
    "schedule.decay=cosin": "config.schedule.decay is 'cosin'",
    "adapt=atention": "config.adapt is 'atention'",
    "trainable=(('(',True),)": "config.trainable[0][0] is '('",
    "trainable=5": "config.trainable",
    "evals.answers.sampler=beem": "config.evals.answers.sampler is 'beem'",
    "evals.answers.metric.name=exact": "config.evals.answers.metric.name is 'exact'",
    "mesh.data=0": "config.mesh.data is 0",
    "input.data.name=json": "config.input.data.name is 'json'",
    "total_epochs=1.0": "config.total_steps is 2 and config.total_epochs is 1.0",
}

DRIVER = """
import contextlib, io, json, resource, runpy, sys, os
out = []
for flag in json.loads(sys.argv[1]):
    reader, writer = os.pipe()
    if not (child := os.fork()):
        os.dup2(writer, 1), os.dup2(writer, 2)
        sys.argv = ["train", "--config=forkme:variant=tiny,steps=2",
                    "--workdir=" + sys.argv[2], "--config." + flag]
        code = 1
        try:
            runpy.run_module("pgjax.train", run_name="__main__")
        except SystemExit as e:
            code = e.code or 0
        print("JAX" if "jax" in sys.modules else "NO JAX")
        sys.stdout.flush()
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as f:
        text = f.read()
    _, status, used = os.wait4(child, 0)
    out.append([os.waitstatus_to_exitcode(status), text, used.ru_utime + used.ru_stime])
print(json.dumps(out))
"""


def test_the_command_line(command, tmp_path):
    """Each in a process of its own: status 2, one line, no traceback, no jax, nothing written."""
    import json

    workdir = tmp_path / "run"
    done = command("-c", DRIVER, json.dumps([*COMMANDS]), workdir)
    results = json.loads(done.stdout)
    for (flag, wanted), (status, text, seconds) in zip(COMMANDS.items(), results, strict=True):
        lines = text.splitlines()
        assert status == 2, (flag, text)
        assert lines[-1] == "NO JAX" and len(lines) == 2, (flag, text)
        assert lines[0].startswith("error: ") and lines[0].endswith("."), (flag, text)
        assert wanted in lines[0], (flag, text)
        assert seconds < 5, (flag, seconds)
    slowest = max(seconds for *_, seconds in results)
    print(f"\n{len(results)} commands, at most {slowest:.2f} s each")
    assert not workdir.exists() and len(results) >= 20


def test_flags_can_set_keys_that_a_config_file_leaves_out():
    import pgjax

    overrides = {
        "optimizer.args.eps": 1e-6,
        "evals.answers.sampler": "beam(2)",
        "evals.answers.max_examples": 3,
        "evals.answers.metric.lower": True,
        "evals.val.seed": 4,
        "input.data.root": "elsewhere",
        "input.data.allow_outside_root": True,
    }
    config = parse_config(pgjax.read_config("forkme:variant=tiny", overrides))
    assert config.optimizer.args == {"b2": 0.999, "eps": 1e-6}
    answers, val = config.evals["answers"], config.evals["val"]
    assert (answers.sampler, answers.max_examples, val.seed) == ("beam(2)", 3, 4)
    assert answers.metric == {"name": "exact_match", "lower": True}
    for data in (config.input.data, answers.data, val.data):  # one flag for all
        assert data["root"] == "elsewhere" and data["allow_outside_root"] is True
    with pytest.raises(UserError, match=r"args\.epss is not .* nearest is .*args\.eps\."):
        pgjax.read_config("forkme:variant=tiny", {"optimizer.args.epss": 1.0})


def test_parsing_needs_no_jax(command):
    code = (
        "import sys; from transfers import forkme\n"
        "from pgjax.config import parse_config, reference\n"
        "parse_config(forkme.get_config('variant=tiny,mode=qlora')); reference.markdown()\n"
        "assert 'jax' not in sys.modules, 'jax'"
    )
    command("-c", code)


def test_run_directories_of_older_versions_open(tmp_path):
    """Without the newest keys, and with the trained parameters' names in config.json."""
    import json

    from pgjax.loading.run_directory import is_run, read_run

    old = copy.deepcopy(BASE)
    del old["imports"], old["model"]["attention"], old["model"]["lora"], old["quantize_images"]
    del old["evals"]["NAME"]["published"]
    (tmp_path / "config.json").write_text(json.dumps({**old, "_trained": ["llm/a", "img/b"]}))
    assert is_run(tmp_path)
    run = read_run(tmp_path)
    assert run.trained == ("llm/a", "img/b")
    assert run.config == dataclasses.replace(parse_config(BASE), imports=())


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.json", "[]", r"config\.json holds a JSON list, expected an object\."),
        ("config.json", "{", r"config\.json:1 is not JSON \(.*\)\."),
        ("config.json", '{"sed": 1}', r"config\.json: config\.sed is not a known key; .*\.seed\."),
        ("config.json", '{"seed": NaN}', r"config\.json: config\.seed is nan; expected a whole"),
        ("run.json", "{}", r"run\.json: trained is missing; expected"),
        ("run.json", '{"trained": 3}', r"run\.json: trained is 3; expected"),
        ("run.json", '{"trained": [3]}', r"run\.json: trained\[0\] is 3; expected text\."),
    ],
)  # fmt: skip
def test_damaged_run_directories(tmp_path, file, text, message):
    from pgjax.loading.run_directory import read_run

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "run.json").write_text('{"trained": []}')
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=rf"^{re.escape(str(tmp_path))}/{message}"):
        read_run(tmp_path)


def test_the_default_config_has_no_jax_type_inside():
    assert RunConfig() == parse_config({}) and "jax" not in repr(RunConfig())
    assert ROOT.exists() and sys.version_info >= (3, 11)
