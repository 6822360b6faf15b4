"""Ops on any key of an example."""

import numpy as np

from pgjax.data.example import Example
from pgjax.errors import DataError
from pgjax.registry import OPS
from pgjax.text.compose import DropExample, OnTruncate


@OPS.register("fit")
def fit(
    example: Example,
    length: int,
    key: str = "text",
    pad: int = 0,
    *,
    on_truncate: OnTruncate = "error",
) -> Example:
    """Pad an array [T, …] with pad to [length, …]; a longer one is an error, or is dropped or cut.

    With on_truncate="truncate", an example that was cut gets `_truncated`.
    """
    values = np.asarray(example[key])
    if values.ndim == 0:
        raise DataError(f"{key!r} is a single value, expected an array.")
    extra = len(values) - length
    if extra <= 0:
        padding = [(0, -extra)] + [(0, 0)] * (values.ndim - 1)
        return {**example, key: np.pad(values, padding, constant_values=pad)}
    if on_truncate == "truncate":
        return {**example, key: values[:length], "_truncated": True}
    kind = DropExample if on_truncate == "drop" else DataError
    raise kind(f"{key!r} has {len(values)} entries, but only {length} fit.")


@OPS.register("keep")
def keep(example: Example, *keys: str) -> Example:
    """Keep only these keys, and the keys of the loader, which start with '_'."""
    private = {k: v for k, v in example.items() if isinstance(k, str) and k.startswith("_")}
    return {key: example[key] for key in keys} | private


@OPS.register("drop")
def drop(example: Example, *keys: str) -> Example:
    """Remove these keys."""
    for key in keys:
        example[key]
    return {k: v for k, v in example.items() if k not in keys}


@OPS.register("copy")
def copy(example: Example, key: str, outkey: str) -> Example:
    """Copy the value under key to outkey."""
    return {**example, outkey: example[key]}


@OPS.register("rename")
def rename(example: Example, key: str, outkey: str) -> Example:
    """Move the value under key to outkey."""
    return {**drop(example, key), outkey: example[key]}


@OPS.register("setdefault")
def setdefault(example: Example, key: str, value: object) -> Example:
    """Set key to a literal value if the example does not have it."""
    return {key: value, **example}
