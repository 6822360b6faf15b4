"""Options of pgjax's own optimizers and samplers, known without importing jax.

What an extension registers is known by its function's signature instead.
"""

import dataclasses
from typing import Any

from pgjax.schema import field

_DTYPES = (None, "float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class AdamOptions:
    """Adam (arXiv:1412.6980) and AdamW (arXiv:1711.05101)."""

    b1: float = field(0.9, at_least=0, below=1, doc="Decay of the first moment.")
    b2: float = field(0.999, at_least=0, below=1, doc="Decay of the second moment.")
    eps: float = field(1e-8, at_least=0, doc="Added to the root of the second moment.")
    eps_root: float = field(0.0, at_least=0, doc="Added to the second moment under the root.")
    mu_dtype: str | None = field(
        None, choices=_DTYPES, doc="Dtype of the first moment; None for that of the parameter."
    )
    nu_dtype: str | None = field(
        None,
        choices=(None, "bfloat16"),
        doc="Dtype of the second moment, rounded stochastically; None for that of the parameter.",
    )
    nesterov: bool = field(False, doc="Whether the momentum is Nesterov's.")


@dataclasses.dataclass(frozen=True)
class Adam8bitOptions:
    """Adam with its moments in 8 bits (arXiv:2110.02861)."""

    b1: float = field(0.9, at_least=0, below=1, doc="Decay of the first moment.")
    b2: float = field(0.999, at_least=0, below=1, doc="Decay of the second moment.")
    eps: float = field(1e-8, at_least=0, doc="Added to the root of the second moment.")


@dataclasses.dataclass(frozen=True)
class AdafactorOptions:
    """Adafactor (arXiv:1804.04235)."""

    min_dim_size_to_factor: int = field(
        32, at_least=1, doc="Smallest axis whose second moment is factored."
    )
    decay_rate: float = field(
        0.8, above=0, at_most=1, doc="Exponent of the second moment's decay, 1 - step^-decay_rate."
    )
    clipping_threshold: float = field(
        1.0, above=0, doc="Largest root mean square of a parameter's update."
    )
    momentum: float | None = field(
        None, at_least=0, below=1, doc="Decay of the first moment; None for no momentum."
    )


@dataclasses.dataclass(frozen=True)
class MomentumOptions:
    """Stochastic gradient descent with momentum."""

    momentum: float = field(0.9, at_least=0, below=1, doc="Decay of the momentum.")
    nesterov: bool = field(False, doc="Whether the momentum is Nesterov's.")
    mu_dtype: str | None = field(
        None, choices=_DTYPES, doc="Dtype of the momentum; None for that of the parameter."
    )


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """Something that takes no options."""


OPTIMIZERS: dict[str, Any] = {
    "adam": AdamOptions,
    "adamw": AdamOptions,
    "adam8bit": Adam8bitOptions,
    "adafactor": AdafactorOptions,
    "momentum": MomentumOptions,
    "sgd": NoOptions,
}


@dataclasses.dataclass(frozen=True)
class TemperatureOptions:
    """A draw from the softmax of the logits."""

    value: float = field(1.0, above=0, doc="Temperature that divides the logits.")


@dataclasses.dataclass(frozen=True)
class TopKOptions:
    """A draw among the most probable tokens."""

    k: int = field(at_least=1, doc="How many tokens.")
    value: float = field(1.0, above=0, doc="Temperature that divides the logits.")


@dataclasses.dataclass(frozen=True)
class NucleusOptions:
    """A draw among the fewest tokens that hold a share of the probability (arXiv:1904.09751)."""

    p: float = field(above=0, at_most=1, doc="The share.")
    value: float = field(1.0, above=0, doc="Temperature that divides the logits.")


@dataclasses.dataclass(frozen=True)
class BeamOptions:
    """Beam search."""

    beams: int = field(at_least=1, at_most=1024, doc="Hypotheses that are kept.")


@dataclasses.dataclass(frozen=True)
class BestOfOptions:
    """The most probable of several draws."""

    n: int = field(at_least=1, at_most=1024, doc="How many draws.")
    value: float = field(1.0, above=0, doc="Temperature that divides the logits.")


SAMPLERS: dict[str, Any] = {
    "greedy": NoOptions,
    "temperature": TemperatureOptions,
    "top_k": TopKOptions,
    "nucleus": NucleusOptions,
    "beam": BeamOptions,
    "best_of": BestOfOptions,
}
