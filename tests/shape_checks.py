"""Checks the shapes and dtypes that signatures state, in every call that the tests make.

`install` makes jaxtyping wrap the functions of some modules as these are imported. A call under
`jax.jit` is checked when it is traced.
"""

import typing

import jaxtyping
from beartype import beartype

# The boundaries of models, loss, decoding, checkpoints, metrics and text.
MODULES = [
    *(
        f"pgjax.models.{name}"
        for name in ("attention", "embedding", "gemma", "loss", "paligemma", "rows", "siglip")
    ),
    "pgjax.models.vqvae",
    "pgjax.checkpoints.fitting",
    "pgjax.checkpoints.placement",
    "pgjax.decoding.generate",
    "pgjax.decoding.samplers",
    "pgjax.decoding.search",
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
    function.__annotations__ = hints
    return beartype(function)


def _states_shape(hint):
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_states_shape, typing.get_args(hint)))
