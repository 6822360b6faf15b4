"""How programs are compiled: XLA's options for decoding, and the cache of compiled programs."""

import functools
import os

import jax

# XLA's default order for CPUs widens the half-precision or quantized weights of all layers before
# it multiplies by the first. One layer at a time takes a thirtieth of the memory, and less time.
_ONE_LAYER_AT_A_TIME = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


@functools.cache
def compiler_options() -> dict[str, str] | None:
    """Options for `jax.jit` of functions that decode, for this machine's devices; None for none."""
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda: 0, compiler_options=_ONE_LAYER_AT_A_TIME).lower().compile()
    except jax.errors.JaxRuntimeError:  # this version of XLA does not know the option
        return None
    return _ONE_LAYER_AT_A_TIME


def cache_compilations() -> None:
    """Keeps compiled programs on disk between runs.

    The cache lies under ~/.cache/pgjax, or where JAX_COMPILATION_CACHE_DIR says.
    """
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        home = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
        jax.config.update("jax_compilation_cache_dir", os.path.join(home, "pgjax", "xla"))
