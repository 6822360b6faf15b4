"""The full run configuration: every key there is, with its default.

A config file starts from `default_config()` and changes what is its own. Keys that do not exist
here are errors, so that a misspelt one is never silently ignored.
"""

import difflib
from typing import Any

from ml_collections import ConfigDict

from pgjax.errors import UserError

# Sections whose keys belong to whatever they configure; the reader of each checks them itself.
FREE = (
    "model.img",
    "model.llm",
    "input.data",
    "input.mixture",
    "optimizer.args",
    "evals",
)


def default_config() -> ConfigDict:
    """Every key of a run, with the values that most runs want."""
    c = ConfigDict()
    c.name = "run"
    c.imports = ()  # modules that register ops, metrics, sources, … of one's own
    c.seed = 0
    # Where tools/prepare.py wrote benchmarks; "" for $PGJAX_DATA, or else TFDS's own folder.
    c.data_dir = ""

    # The model: sizes by variant or spelled out, the image size, and dtypes of computation.
    c.model = ConfigDict()
    c.model.res = 224
    c.model.img = ConfigDict({"variant": "So400m/14"})
    c.model.llm = ConfigDict({"variant": "gemma_2b"})
    c.model.img_dtype = "auto"  # float32, bfloat16 or float16; auto: what suits the device
    c.model.llm_dtype = "auto"
    c.model.remat = "full"  # full | dots | none: what a layer keeps for the backward pass
    # What computes attention: auto (what suits the device), xla, blocks, cudnn, tokamax, splash.
    c.model.attention = "auto"
    # Low-rank adapters beside the matrices whose names the regex `targets` matches; rank 0: none.
    c.model.lora = ConfigDict({"rank": 0, "alpha": 16.0, "rslora": False, "dropout": 0.0})
    c.model.lora.targets = "llm/layers/(attn|mlp)/.*"
    # Checkpoint to start from: a name, an .npz, a run directory; "" for random weights.
    c.init = "pt-224"
    c.tokenizer = "gemma"  # gemma | tiny | path of a tokenizer.model

    # A mode of pgjax/recipes/adapt.py (full, freeze_vit, freeze_llm, projector, attention, lora,
    # qlora) or a regex of what trains; "" for what is said here.
    c.adapt = ""
    # What trains: first match wins; False freezes, a number multiplies the learning rate.
    c.trainable = ((".*", True),)
    c.trainable_dtype = "float32"
    c.frozen_dtype = "auto"  # float16 on GPUs without bfloat16, else bfloat16
    c.quantize = ""  # nf4 | int8 | int4: the decoder's frozen matrices in 4 or 8 bits
    c.quantize_images = False  # the image tower's as well

    # Length of the run: one of the two.
    c.total_steps = 0
    c.total_epochs = 0.0

    # Training data. `data` is one source, or `mixture` holds {name: {weight, data, pp}}.
    c.input = ConfigDict()
    c.input.data = ConfigDict()
    c.input.mixture = ConfigDict()
    c.input.pp = ""
    c.input.batch_size = 32  # over all processes
    c.input.shuffle = True
    c.input.on_bad_example = "raise"  # raise | skip
    c.input.workers = 0  # processes that decode images; 0: threads of this one
    c.input.threads = 4
    c.input.prefetch = 4  # batches

    # How `predict` prepares an image, a prompt (where none is given), and the text.
    c.answering = ConfigDict({"image": "", "prompt": "", "text": ""})

    c.optimizer = ConfigDict()
    c.optimizer.name = "adam"
    c.optimizer.args = ConfigDict({"b2": 0.999})
    c.optimizer.lr = 1e-5
    c.optimizer.weight_decay = 0.0  # scaled by the schedule, not by lr (adamw: by both)
    c.optimizer.decay_rules = (("img/.*/kernel", 1.0), (".*", 0.0))
    c.optimizer.grad_clip_norm = 1.0  # 0: no clipping
    c.schedule = ConfigDict()
    c.schedule.decay = "cosine"  # cosine | linear | rsqrt | constant
    c.schedule.warmup_percent = 0.05  # of the run, in 0..1
    c.schedule.warmup_steps = 0  # instead of warmup_percent, if not 0
    c.schedule.cooldown_steps = 0
    c.schedule.linear_end = 0.0
    c.schedule.timescale = 10_000.0
    c.schedule.first_step = 0

    c.label_smoothing = 0.0
    c.loss_chunk = 16  # text columns whose logits exist at a time
    c.grad_accum_steps = 1  # parts that a batch is worked through in

    # Devices: data × model; a strategy per parameter: replicate | fsdp | tensor | fsdp+tensor.
    c.mesh = ConfigDict({"data": -1, "model": 1})
    c.sharding = ((".*", "fsdp"),)

    # {name: {kind: perplexity | answers, data, pp, …}}, see pgjax/evaluation.
    c.evals = ConfigDict()
    c.eval_first = False  # also before the first step
    c.sample_sheet = ""  # an `answers` eval to draw as a picture at the end

    c.log_every = 10  # steps
    c.checkpoint_every = 0  # steps; 0: only at the end
    c.keep_last = 1  # checkpoints
    c.keep_every = 0  # steps; checkpoints at multiples stay; 0: none
    return c


def check_config(config: ConfigDict) -> None:
    """Checks that a config has exactly the keys of `default_config()`.

    Raises:
      UserError: unknown or missing keys, with the nearest known one.
    """
    known, got = _keys(default_config()), _keys(config)
    for key in sorted(got - known):
        near = difflib.get_close_matches(key, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {sorted(known)}."
        raise UserError(f"config.{key} is read by nobody{hint}")
    if missing := sorted(known - got):
        raise UserError(f"config lacks {missing}; start from pgjax.recipes.default_config().")


def _keys(config: ConfigDict, prefix: str = "") -> set[str]:
    keys = set()
    for key in config:
        name = f"{prefix}{key}"
        value = config[key]
        if isinstance(value, ConfigDict) and name not in FREE:
            keys |= _keys(value, name + ".")
        else:
            keys.add(name)
    return keys


def parse_arg(arg: str | None, **defaults: Any) -> ConfigDict:
    """Parses a config file's argument, `key=value,flag,…`, as in `forkme.py:variant=tiny`.

    A value takes the type of its default; a bare key means True.

    Raises:
      UserError: an unknown key, or a value of another type.
    """
    out = ConfigDict(defaults)
    for item in filter(None, (arg or "").split(",")):
        key, eq, value = item.partition("=")
        if key not in defaults:
            raise UserError(
                f"config argument {key!r} is unknown; this file takes {sorted(defaults)}."
            )
        default = defaults[key]
        try:
            if isinstance(default, bool):
                out[key] = {"": True, "true": True, "1": True, "false": False, "0": False}[
                    value.lower()
                ]
            elif not eq:
                raise ValueError
            else:
                out[key] = type(default)(value)
        except (KeyError, ValueError, TypeError):
            raise UserError(
                f"config argument {item!r}: expected {key}=<{type(default).__name__}>."
            ) from None
    return out
