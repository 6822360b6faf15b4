"""What the arguments of a pipeline's ops may be, checked before any data is read."""

import math
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

MOST_SIDE = 32_768  # pixels


class Checked(NamedTuple):
    """A condition on an argument, for `Annotated`, and how messages word it."""

    holds: Callable[[Any], bool]
    expected: str


def between(low: float, high: float) -> Checked:
    """A number within bounds, which are allowed themselves."""
    return Checked(lambda value: low <= value <= high, f"a number in {low:g}..{high:g}")


def _is_size(value: Any) -> bool:
    sides = value if isinstance(value, tuple) else (value, value)
    return len(sides) == 2 and all(type(s) is int and 0 < s <= MOST_SIDE for s in sides)


_SIZE = f"a positive integer or (height, width), of at most {MOST_SIDE:,} pixels a side"
Size = Annotated[int | tuple[int, int], Checked(_is_size, _SIZE)]
Side = Annotated[int, between(1, MOST_SIDE)]
Share = Annotated[float, between(0, 1)]

_PLAIN: dict[Any, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda v: isinstance(v, bool), "True or False"),
    int: (lambda v: type(v) is int, "a whole number"),
    float: (lambda v: type(v) in (int, float) and math.isfinite(v), "a number"),
    str: (lambda v: isinstance(v, str), "text"),
    type(None): (lambda v: v is None, "None"),
}


def problem(kind: Any, value: Any) -> str | None:
    """Returns what an argument should be, or None if it is right.

    Args:
      kind: the annotation of the op's parameter.
      value: the literal in the pipeline.
    """
    origin = get_origin(kind)
    if origin is Literal:
        return None if value in get_args(kind) else f"one of {get_args(kind)}"
    if origin is Annotated:
        base, *conditions = get_args(kind)
        for condition in conditions:
            if isinstance(condition, Checked):
                wrong = problem(base, value) is not None or not condition.holds(value)
                return condition.expected if wrong else None
        return problem(base, value)
    if origin in (Union, types.UnionType):
        problems = [problem(part, value) for part in get_args(kind)]
        return None if None in problems else " or ".join(filter(None, problems))
    if kind in _PLAIN:
        right, expected = _PLAIN[kind]
        return None if right(value) else expected
    if origin is tuple:
        return None if isinstance(value, tuple) else "a tuple"
    return None
