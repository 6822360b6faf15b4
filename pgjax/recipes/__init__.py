"""Short task descriptions in, one full ConfigDict out; imports ml_collections only."""

from pgjax.recipes.adapt import MODES, adapted
from pgjax.recipes.base import check_config, default_config, parse_arg
from pgjax.recipes.benchmark import answers, benchmark, prepared
from pgjax.recipes.lighter import lighter
from pgjax.recipes.transfer import transfer

__all__ = [
    "MODES",
    "adapted",
    "answers",
    "benchmark",
    "check_config",
    "default_config",
    "lighter",
    "parse_arg",
    "prepared",
    "transfer",
]
