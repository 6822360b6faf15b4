"""Short task descriptions in, one full ConfigDict out; jax and numpy are not imported."""

from pgjax.recipes.adapt import MODES, adapted
from pgjax.recipes.base import default_config, parse_arg
from pgjax.recipes.benchmark import answers, benchmark, prepared
from pgjax.recipes.memory_savers import memory_savers
from pgjax.recipes.transfer import transfer

__all__ = [
    "MODES",
    "adapted",
    "answers",
    "benchmark",
    "default_config",
    "memory_savers",
    "parse_arg",
    "prepared",
    "transfer",
]
