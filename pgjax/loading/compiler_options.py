"""XLA's options for compiling decoding programs, and the cache of compiled programs."""

import functools
import os

import jax

from pgjax.cache import cache_folder

# In XLA's default order for CPUs, the half-precision or quantized weights of all layers are
# converted to float32 before the first layer is computed. Converting one layer at a time takes a
# thirtieth of the memory, and less time.
_ONE_LAYER_AT_A_TIME = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


@functools.cache
def compiler_options() -> dict[str, str] | None:
    """The `compiler_options` of `jax.jit` for functions that decode, on this machine's devices."""
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda: 0, compiler_options=_ONE_LAYER_AT_A_TIME).lower().compile()
    except jax.errors.JaxRuntimeError:  # this version of XLA does not know the option
        return None
    return _ONE_LAYER_AT_A_TIME


def cache_compilations() -> None:
    """Makes jax cache compiled programs on disk, for later processes.

    The cache is in `~/.cache/pgjax`, or in the folder that JAX_COMPILATION_CACHE_DIR names.
    """
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
