"""Whether values fit the features that a reader states."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pgjax.benchmarks.reader import BOX, IMAGE
from pgjax.errors import DataError

_INT64 = 1 << 63
_FLOAT32 = 3.4e38  # what is larger has no place in float32; nan is in no range


def check_features(value: Any, feature: Any, name: str = "") -> None:
    """Checks a value, or all values of an example.

    Args:
      value: an example, or the value of one feature. Images are not looked at.
      feature: features as of `Reader`.
      name: of the feature, for messages.

    Raises:
      DataError: a value is of another kind, or cannot be stored.
    """
    if isinstance(feature, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong(name, value, "an object")
        for key, inner in feature.items():
            check_features(value[key], inner, key)
    elif isinstance(feature, list):
        if not isinstance(value, list | tuple | np.ndarray):
            raise _wrong(name, value, "a list")
        for one in value:
            check_features(one, feature[0], name)
    elif feature == BOX:
        if len(value) != 4:
            raise _wrong(name, value, "four numbers")
        for one in value:
            check_features(one, float, name)
    elif feature is str:
        if not isinstance(value, str):
            raise _wrong(name, value, "text")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _wrong(name, value, "text without half characters") from None
    elif feature is bool:
        if not isinstance(value, bool | np.bool_):
            raise _wrong(name, value, "true or false")
    elif feature is int:
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not (whole and -_INT64 <= value < _INT64):
            raise _wrong(name, value, "a whole number of 64 bits")
    elif feature is float:
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not (number and -_FLOAT32 <= value <= _FLOAT32):
            raise _wrong(name, value, "a finite number")
    elif feature != IMAGE:
        raise TypeError(f"{feature!r} is not a feature")


def _wrong(name: str, value: Any, expected: str) -> DataError:
    try:
        shown = ascii(value)
    except (ValueError, RecursionError):
        shown = f"a {type(value).__name__}"
    shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
    return DataError(f"{name or 'the id'} is {shown}, expected {expected}")
