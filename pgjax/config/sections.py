"""The run config's sections: every key with its type, default, range, unit and meaning."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from pgjax.config import named
from pgjax.schema import Rule, field, wrong

FLOATS = ("float32", "bfloat16", "float16")
QUANTIZATIONS = ("", "nf4", "int8", "int4")
STRATEGIES = ("replicate", "fsdp", "tensor", "fsdp+tensor")
TRACKERS = ("tensorboard", "wandb", "mlflow")
_PIPELINE = "a pipeline of ops, op|op(argument)|…"

_Regex = Annotated[str, Rule(regex=True)]
_LearningRate = Annotated[
    bool | float, Rule(at_least=0, expected="True, False or a learning-rate multiplier from 0 up")
]
_Multiplier = Annotated[float, Rule(at_least=0)]
_Tracker = Annotated[str, Rule(choices=TRACKERS)]
_Strategy = Annotated[str, Rule(choices=STRATEGIES)]


def _module_name(value: tuple[str, ...], key: str) -> tuple[str, ...]:
    for name in value:
        if not all(part.isidentifier() for part in name.split(".")):
            raise wrong(key, value, "names of modules, such as ('my_package.ops',)")
    return value


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (arXiv:2106.09685) beside the model's matrices."""

    rank: int = field(0, at_least=0, at_most=2048, doc="Rank of the adapters; 0 for none.")
    alpha: float = field(
        16.0, above=0, at_most=1e6, doc="The adapters' product is scaled by alpha / rank."
    )
    rslora: bool = field(
        False, doc="Whether the scale is alpha / √rank (arXiv:2312.03732) instead."
    )
    dropout: float = field(0.0, at_least=0, below=1, doc="Dropout in front of the adapters.")
    targets: str = field(
        "llm/layers/(attn|mlp)/.*",
        regex=True,
        doc="Regular expression of the names of the matrices that have adapters.",
    )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The model: sizes by variant or spelled out, the image size, and dtypes of computation."""

    res: int = field(
        224, at_least=1, at_most=16384, unit="pixels", doc="Height and width of the model's images."
    )
    img: Mapping[str, Any] = field(
        factory=lambda: {"variant": "So400m/14"},
        check=named.check_sizes("img"),
        doc="Sizes of the image tower: a variant, with sizes that differ from it, or all sizes.",
    )
    llm: Mapping[str, Any] = field(
        factory=lambda: {"variant": "gemma_2b"},
        check=named.check_sizes("llm"),
        doc="Sizes of the decoder: a variant, with sizes that differ from it, or all sizes.",
    )
    img_dtype: str = field(
        "auto", choices=("auto", *FLOATS), doc="Dtype in which the image tower computes."
    )
    llm_dtype: str = field(
        "auto", choices=("auto", *FLOATS), doc="Dtype in which the decoder computes."
    )
    remat: str = field(
        "full",
        choices=("full", "dots", "none"),
        doc="What the backward pass computes again: whole layers, all but products, or nothing.",
    )
    attention: str = field(
        "auto",
        choices=("auto", "xla", "blocks", "cudnn", "tokamax", "splash"),
        doc="What computes attention; auto chooses what suits the device.",
    )
    lora: LoraConfig = field(factory=LoraConfig, doc="Low-rank adapters.")


@dataclasses.dataclass(frozen=True)
class MixtureEntry:
    """One data set of a mixture."""

    data: Mapping[str, Any] = field(
        check=named.check_source, empty=False, doc="Data source, as in config.input.data."
    )
    weight: float = field(1.0, above=0, at_most=1e9, doc="Share of the examples, relative.")
    pp: str = field(
        "", check=named.check_pipeline, doc="Pipeline of this data set; empty for input.pp."
    )


@dataclasses.dataclass(frozen=True)
class InputConfig:
    """Training data."""

    data: Mapping[str, Any] = field(
        factory=dict,
        check=named.check_source,
        doc="Data source, by its name and arguments; or give mixture.",
    )
    mixture: Mapping[str, MixtureEntry] = field(
        factory=dict, doc="Several data sets by name, mixed by weight; instead of data."
    )
    pp: str = field("", check=named.check_pipeline, doc="Pipeline that prepares an example.")
    batch_size: int = field(
        32, at_least=1, at_most=2**20, unit="examples", doc="Size of a batch over all processes."
    )
    shuffle: bool = field(True, doc="Whether examples are shuffled, anew in every epoch.")
    on_bad_example: str = field(
        "raise", choices=("raise", "skip"), doc="What happens at an example that cannot be used."
    )
    workers: int = field(
        0, at_least=0, at_most=1024, unit="processes",
        doc="Processes that read and prepare; 0 for threads of the training process.",
    )  # fmt: skip
    threads: int = field(
        4, at_least=1, at_most=1024, unit="threads",
        doc="Threads that read and prepare where there are no worker processes.",
    )  # fmt: skip
    prefetch: int = field(
        4, at_least=0, at_most=1024, unit="batches", doc="Batches that are prepared ahead."
    )


@dataclasses.dataclass(frozen=True)
class AnsweringConfig:
    """How `pgjax predict` prepares an image and a prompt; empty for a run that is not prompted."""

    image: str = field("", check=named.check_pipeline, doc="Pipeline that decodes an image.")
    prompt: str = field(
        "", check=named.check_pipeline, doc="Pipeline that makes the prompt where none is given."
    )
    text: str = field("", check=named.check_pipeline, doc="Pipeline that tokenizes the prompt.")
    objects: int = field(
        0, at_least=0, at_most=4096,
        doc="How many objects answers to `detect` list; 0 for as many as the model finds.",
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer."""

    name: str = field("adam", doc="Which optimizer; `pgjax list optimizers` shows them.")
    args: Mapping[str, Any] = field(
        factory=lambda: {"b2": 0.999}, doc="Options of the optimizer, such as b2 of Adam."
    )
    lr: float = field(1e-5, at_least=0, doc="Learning rate at the schedule's peak.")
    weight_decay: float = field(
        0.0, at_least=0, doc="Weight decay, scaled by the schedule; with adamw by lr as well."
    )
    decay_rules: tuple[tuple[_Regex, _Multiplier], ...] = field(
        (("img/.*/kernel", 1.0), (".*", 0.0)),
        empty=False,
        doc="Multipliers of weight_decay by parameter name; the first match counts.",
        expected="a list, not empty, of pairs (regular expression, multiplier from 0 up)",
    )
    grad_clip_norm: float = field(
        1.0, at_least=0, doc="Largest global norm of the gradient; 0 for no clipping."
    )


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over the run, relative to optimizer.lr."""

    decay: str = field(
        "cosine", choices=("constant", "cosine", "linear", "rsqrt"), doc="Shape after the warm-up."
    )
    warmup_percent: float = field(
        0.05, at_least=0, at_most=1, unit="share of the run", doc="Length of the linear warm-up."
    )
    warmup_steps: int = field(
        0, at_least=0, at_most=10**9, unit="steps", doc="Instead of warmup_percent, if not 0."
    )
    cooldown_steps: int = field(
        0,
        at_least=0,
        at_most=10**9,
        unit="steps",
        doc="Length of the linear descent at the end.",
    )
    linear_end: float = field(
        0.0, at_least=0, at_most=1, doc="Where the decay `linear` ends, relative to optimizer.lr."
    )
    timescale: float = field(10_000.0, above=0, unit="steps", doc="Timescale of the decay `rsqrt`.")
    first_step: int = field(
        0,
        at_least=0,
        at_most=10**9,
        unit="steps",
        doc="The schedule's place at the first update.",
    )


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How many devices split the batch, and how many split the model; -1 takes what is left."""

    data: int = field(
        -1,
        at_least=1,
        also=(-1,),
        at_most=2**20,
        unit="devices",
        doc="Devices that split the batch.",
    )
    model: int = field(
        1, at_least=1, also=(-1,), at_most=2**20, unit="devices",
        doc="Devices that split matrices, by the strategies `tensor` and `fsdp+tensor`.",
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """One evaluation."""

    kind: str = field(doc="answers (decoded and scored), or perplexity (of the targets).")
    data: Mapping[str, Any] = field(
        check=named.check_source, empty=False, doc="Data source, as in config.input.data."
    )
    pp: str = field(
        check=named.check_pipeline, empty=False, doc="Pipeline that prepares an example."
    )
    batch_size: int = field(
        32, at_least=1, at_most=2**20, unit="examples", doc="Size of a batch over all processes."
    )
    every: int = field(
        0, at_least=0, at_most=10**9, unit="steps", doc="How often it runs; 0 for only at the end."
    )
    metric: Mapping[str, Any] = field(
        factory=lambda: {"name": "exact_match"},
        check=named.check_metric,
        doc="Metric of the answers: its name and options.",
    )
    max_new_tokens: int = field(
        32,
        at_least=1,
        at_most=65536,
        unit="tokens",
        doc="Longest answer, with its end token.",
    )
    sampler: str = field(
        "greedy", check=named.check_sampler, doc="How answers are decoded, such as beam(4)."
    )
    seed: int = field(0, at_least=0, at_most=2**32 - 1, doc="Seed of the sampler.")
    objects: int = field(
        0, at_least=0, at_most=4096,
        doc="How many objects an answer lists, scored by the probability of their labels; 0 for "
        "any answer, in which all tokens of an object count.",
    )  # fmt: skip
    max_examples: int | None = field(
        None, at_least=1, at_most=10**12, unit="examples",
        doc="How many examples are used at most; None for all.",
    )  # fmt: skip
    on_bad_example: str = field(
        "raise", choices=("raise", "skip"), doc="What happens at an example that cannot be used."
    )
    workers: int = field(
        0, at_least=0, at_most=1024, unit="processes",
        doc="Processes that read and prepare; 0 for threads of the evaluating process.",
    )  # fmt: skip
    submission: str = field(
        "",
        choices=named.submissions,
        doc="Format that an evaluation server takes; empty for none.",
    )
    published: str = field(
        "", choices=named.published, doc="Benchmark whose published scores stand beside these."
    )


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    """Tuning by reward: by the model's own answers, and what a metric says of them."""

    metric: Mapping[str, Any] = field(
        factory=lambda: {"name": ""},
        check=lambda value, key: named.check_metric(value, key) if value.get("name") else value,
        doc="Metric of single answers whose main score is the reward: its name and options; an "
        "empty name for tuning by targets.",
    )
    samples: int = field(
        8, at_least=2, at_most=1024, unit="answers",
        doc="Answers drawn for each prompt of a batch, which are compared with each other.",
    )  # fmt: skip
    kl: float = field(
        0.01, at_least=0, at_most=1e3,
        doc="Reward that an answer loses for each nat by which it is likelier than at the start of "
        "the run.",
    )  # fmt: skip

    @property
    def given(self) -> bool:
        """Whether a run is tuned by reward."""
        return bool(self.metric.get("name"))


@dataclasses.dataclass(frozen=True)
class EarlyStoppingConfig:
    """Ends a run whose score does not get better any more."""

    metric: str = field("", doc="The score, written as for keep_best; empty for that of keep_best.")
    patience: int = field(
        0,
        at_least=0,
        at_most=10**9,
        unit="evaluations",
        doc="Evaluations in a row without a better score after which the run ends; 0 for never.",
    )


def _evaluations(value: Mapping[str, Any], key: str) -> dict[str, EvalConfig]:
    from pgjax.config.parsing import parse_evaluation

    return {name: parse_evaluation(name, given, key) for name, given in value.items()}


def _optimizer(value: OptimizerConfig, key: str) -> OptimizerConfig:
    from pgjax.schema import bind

    options = named.optimizer_options(value.name, f"{key}.name")
    return dataclasses.replace(value, args=bind(options, value.args, f"{key}.args"))


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that a run is made from."""

    imports: tuple[str, ...] = field(
        (),
        check=_module_name,
        doc="Modules that are imported first and register ops, metrics, …; their code is run.",
        expected="a list of module names",
    )
    name: str = field("run", empty=False, doc="Name of the run, for tables and folders.")
    seed: int = field(
        0, at_least=0, at_most=2**32 - 1, doc="Seed of initialisation, data order and dropout."
    )
    data_dir: str = field(
        "", doc="Folder of prepared benchmarks; empty for $PGJAX_DATA, or else that of TFDS."
    )
    model: ModelConfig = field(factory=ModelConfig, doc="The model.")
    init: str = field(
        "pt-224",
        doc="Checkpoint to start from: a name, a file, a run directory; empty for random weights.",
    )
    tokenizer: str = field(
        "gemma", empty=False, doc="gemma, tiny, or the path of a tokenizer.model."
    )
    adapt: str = field(
        "",
        regex=True,
        doc="Mode of adaptation (full, freeze_vit, freeze_llm, projector, attention, lora, qlora), "
        "or a regular expression of what trains; empty for what `trainable` says.",
    )
    trainable: tuple[tuple[_Regex, _LearningRate], ...] = field(
        ((".*", True),),
        empty=False,
        doc="What trains, by parameter name; the first match counts, False freezes, and a number "
        "multiplies the learning rate.",
        expected="a list, not empty, of pairs (regular expression, True, False or a multiplier "
        "from 0 up)",
    )
    trainable_dtype: str = field(
        "float32", choices=FLOATS, doc="Dtype in which parameters that train are stored."
    )
    frozen_dtype: str = field(
        "auto", choices=("auto", *FLOATS), doc="Dtype in which frozen parameters are stored."
    )
    quantize: str = field(
        "",
        choices=QUANTIZATIONS,
        doc="Kind of quantization of the decoder's frozen matrices; empty for none.",
    )
    quantize_images: bool = field(
        False, doc="Whether the image tower's frozen matrices are quantized as well."
    )
    total_steps: int = field(
        0, at_least=0, at_most=10**9, unit="steps", doc="Length of the run; or give total_epochs."
    )
    total_epochs: float = field(
        0.0, at_least=0, at_most=1e6, unit="epochs", doc="Length of the run; or give total_steps."
    )
    input: InputConfig = field(factory=InputConfig, doc="Training data.")
    answering: AnsweringConfig = field(factory=AnsweringConfig, doc="How the run is prompted.")
    optimizer: OptimizerConfig = field(
        factory=OptimizerConfig, check=_optimizer, doc="The optimizer."
    )
    schedule: ScheduleConfig = field(factory=ScheduleConfig, doc="The learning rate over the run.")
    label_smoothing: float = field(
        0.0, at_least=0, below=1, doc="Share of probability spread over the vocabulary."
    )
    loss_chunk: int = field(
        16, at_least=1, at_most=65536, unit="tokens",
        doc="Columns of the text whose logits are in memory at a time.",
    )  # fmt: skip
    reward: RewardConfig = field(factory=RewardConfig, doc="Tuning by reward.")
    grad_accum_steps: int = field(
        1, at_least=1, at_most=2**20, doc="Parts in which a batch is worked through, one by one."
    )
    mesh: MeshConfig = field(factory=MeshConfig, doc="The mesh of devices.")
    sharding: tuple[tuple[_Regex, _Strategy], ...] = field(
        ((".*", "fsdp"),),
        empty=False,
        doc="How parameters are split over the mesh, by name; the first match counts.",
        expected="a list, not empty, of pairs (regular expression, one of "
        f"{', '.join(STRATEGIES)})",
    )
    evals: Mapping[str, Any] = field(factory=dict, check=_evaluations, doc="Evaluations by name.")
    eval_first: bool = field(False, doc="Whether evaluations also run before the first step.")
    sample_sheet: str = field(
        "",
        doc="Evaluation of answers whose examples are drawn at the end; empty for none.",
    )
    log_every: int = field(
        10, at_least=1, at_most=10**9, unit="steps", doc="How often metrics are written."
    )
    trackers: tuple[_Tracker, ...] = field(
        ("tensorboard",),
        doc="What shows the run beside metrics.jsonl; each service's package must be installed.",
        expected=f"a list of trackers, of {', '.join(TRACKERS)}",
    )
    checkpoint_every: int = field(
        0, at_least=0, at_most=10**9, unit="steps", doc="How often is saved; 0 for only at the end."
    )
    checkpoint_minutes: float = field(
        20.0, at_least=0, at_most=10**6, unit="minutes",
        doc="Time after which is saved even where checkpoint_every is not due; 0 for never.",
    )  # fmt: skip
    keep_last: int = field(
        1, at_least=1, at_most=10**6, unit="checkpoints", doc="Newest checkpoints that are kept."
    )
    keep_every: int = field(
        0, at_least=0, at_most=10**9, unit="steps",
        doc="Checkpoints at multiples of this are kept as well; 0 for none.",
    )  # fmt: skip
    keep_best: str = field(
        "",
        doc="Score by which the best checkpoint is kept as well: EVALUATION/SCORE, such as "
        "answers/acc, whose metric says whether higher is better, or with :max or :min after it; "
        "empty for none.",
    )
    early_stopping: EarlyStoppingConfig = field(
        factory=EarlyStoppingConfig, doc="When a run ends before its last step."
    )
