"""Tables of a model's parameters: one line for each module, or one for each parameter."""

import math
from collections.abc import Mapping
from typing import Any

from pgjax.console import table


def parameter_summary(
    shapes: Mapping[str, tuple[int, ...]],
    multipliers: Mapping[str, float],
    dtypes: Mapping[str, Any],
) -> str:
    """Formats a table of the model's modules: how many parameters each has, and what trains.

    A module that is stored or trained in several ways has a line for each. The arguments are those
    of `parameter_table`.
    """
    counts: dict[tuple[str, str, str], list[int]] = {}
    for name, shape in shapes.items():
        key = (_module(name), str(dtypes[name]), _training(multipliers.get(name)))
        found = counts.setdefault(key, [0, 0])
        found[0] += 1
        found[1] += math.prod(shape)
    rows = [
        (module, f"{size:,} in {arrays}", dtype, trains)
        for (module, dtype, trains), (arrays, size) in counts.items()
    ]
    text = table(("module", "parameters in arrays", "dtype", ""), rows)
    return f"{text}\n{_totals(shapes, multipliers)} `--parameters` lists each of them."


def parameter_table(
    shapes: Mapping[str, tuple[int, ...]],
    multipliers: Mapping[str, float],
    dtypes: Mapping[str, Any],
) -> str:
    """Formats a table of all parameters: their shape, dtype, and whether and how fast they train.

    Args:
      shapes: the shape of each parameter, by name.
      multipliers: the learning-rate multiplier of each trainable parameter, by name.
      dtypes: the dtype of each parameter, by name.
    """
    rows = [
        (
            name,
            "×".join(map(str, shape)) or "scalar",
            str(dtypes[name]),
            _training(multipliers.get(name)),
        )
        for name, shape in shapes.items()
    ]
    text = table(("parameter", "shape", "dtype", ""), rows)
    return f"{text}\n{_totals(shapes, multipliers)}"


def _module(name: str) -> str:
    """The module of a parameter: `img/head`, `llm/layers/mlp`, …; adapters count as their own."""
    parts = name.split("/")
    module = "/".join(parts[: 3 if name.startswith("llm/layers/") else 2])
    return f"{module}, adapters" if "_lora_" in name else module


def _training(rate: float | None) -> str:
    return "frozen" if rate is None else "trains" if rate == 1 else f"trains at lr × {rate:g}"


def _totals(shapes: Mapping[str, tuple[int, ...]], multipliers: Mapping[str, float]) -> str:
    trains, frozen = (
        sum(math.prod(s) for n, s in shapes.items() if (n in multipliers) == kind)
        for kind in (True, False)
    )
    return f"{trains:,} parameters train, {frozen:,} are frozen."
