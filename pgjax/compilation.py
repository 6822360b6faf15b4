"""Compiled programs kept on disk between runs."""

import os

import jax


def cache_compilations() -> None:
    """Turns the cache on, under ~/.cache/pgjax, unless JAX_COMPILATION_CACHE_DIR says where."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        home = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
        jax.config.update("jax_compilation_cache_dir", os.path.join(home, "pgjax", "xla"))
