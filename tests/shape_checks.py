"""Checks the shapes and dtypes that signatures state, in every call that the tests make.

`install` makes jaxtyping wrap the functions of some modules as these are imported. A call under
`jax.jit` is checked when it is traced.
"""

import types
import typing

import jaxtyping
from beartype import beartype

# The boundaries of models, loss, decoding, checkpoints, data, metrics and text.
MODULES = [
    *(
        f"pgjax.models.{name}"
        for name in ("attention", "embedding", "gemma", "loss", "paligemma", "rows", "siglip")
    ),
    "pgjax.models.vqvae",
    "pgjax.checkpoints.fitting",
    "pgjax.checkpoints.placement",
    "pgjax.decoding.continuous",
    "pgjax.decoding.generate",
    "pgjax.decoding.samplers",
    "pgjax.decoding.search",
    *(f"pgjax.data.{name}" for name in ("decode", "draw", "masks", "resize", "scenes", "video")),
    "pgjax.metrics.segmentation",
    "pgjax.metrics.statistics",
    "pgjax.text.compose",
]


def install():
    """To be called before any of the modules is imported."""
    jaxtyping.install_import_hook(MODULES, "shape_checks.check")


def check(function):
    """Makes beartype check those arguments and results of a function that have stated shapes.

    Dataclasses are left alone: as pytrees they may hold anything, such as shardings.
    """
    hints = {name: hint for name, hint in function.__annotations__.items() if _states_shape(hint)}
    if function.__name__ == "__init__" or not hints:
        return function
    function.__annotations__ = {name: _with_numpy(hint) for name, hint in hints.items()}
    return beartype(function)


def _is_array(hint):
    return isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)


def _states_shape(hint):
    return _is_array(hint) or any(map(_states_shape, typing.get_args(hint)))


def _with_numpy(hint):
    """The hint for JAX's or NumPy's arrays: JAX takes both, and tests pass either."""
    import jax
    import numpy as np

    if _is_array(hint):
        return hint.dtype[jax.Array | np.ndarray, hint.dim_str]
    parts = tuple(map(_with_numpy, typing.get_args(hint)))
    if typing.get_origin(hint) is tuple:
        return tuple[parts]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.Union[parts]  # noqa: UP007
    return hint
