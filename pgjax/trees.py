"""Trees of named parameters: flat names, rules by regular expressions, and readable differences."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from pgjax.errors import UserError

T = TypeVar("T")


class HasShape(Protocol):
    """An array, or anything else that has a shape."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        ...


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested mappings to names such as `a/b/c`, in the order of the mappings."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, name + "/"))
        else:
            flat[name] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Nests a flat mapping; this is the inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, leaf = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def first_match(rules: Sequence[tuple[str, T]], names: Iterable[str], *, what: str) -> dict[str, T]:
    """Returns the value of each name by the first rule that matches the whole name.

    Args:
      rules: pairs of a regular expression and a value.
      names: parameter names, such as `llm/layers/attn/q_einsum/w`.
      what: the config key that the rules come from, for messages.

    Raises:
      UserError: a name is matched by no rule, a rule matches no name, or a regular expression is
        malformed.
    """
    compiled: list[tuple[re.Pattern[str], T]] = []
    for regex, value in rules:
        try:
            compiled.append((re.compile(regex), value))
        except re.error as e:
            raise UserError(f"{what}: {regex!r} is not a regular expression ({e}).") from None
    values: dict[str, T] = {}
    missing: list[str] = []
    used: set[int] = set()
    for name in names:
        for i, (pattern, value) in enumerate(compiled):
            if pattern.fullmatch(name):
                values[name] = value
                used.add(i)
                break
        else:
            missing.append(name)
    if missing:
        raise UserError(
            f"{what}: no rule matches {_listing(missing)}; "
            "add a final ('.*', value) rule for the rest."
        )
    # Earlier rules may take all that a rule matches. A rule that matches no name at all is a typo.
    dead = [
        rules[i][0]
        for i, (pattern, _) in enumerate(compiled)
        if i not in used and not any(pattern.fullmatch(name) for name in values)
    ]
    if dead and values:
        raise UserError(
            f"{what}: {_listing(dead)} matches no parameter, expected a pattern of names such as "
            f"{_listing(list(values)[:3])}."
        )
    return values


def check_same(expected: Mapping[str, HasShape], got: Mapping[str, HasShape], *, what: str) -> None:
    """Checks that two flat trees have the same names and shapes.

    Args:
      expected: what the model has, by name.
      got: what was found, by name.
      what: where it was found, for messages, such as `Checkpoint x.npz`.

    Raises:
      UserError: there are differences; the message lists them all, with `-` for missing, `+` for
        left over, and `!` for a wrong shape.
    """
    lines = [f"- {name} {_shape(expected[name])} is missing" for name in expected.keys() - got]
    lines += [f"+ {name} {_shape(got[name])} is left over" for name in got.keys() - expected]
    lines += [
        f"! {name} has shape {_shape(got[name])}, expected {_shape(expected[name])}"
        for name in expected.keys() & got.keys()
        if tuple(expected[name].shape) != tuple(got[name].shape)
    ]
    if lines:
        raise UserError(
            f"{what} does not fit the model ({len(lines)} differences):\n  "
            + "\n  ".join(sorted(lines, key=lambda line: line[2:]))
        )


def _shape(x: HasShape) -> str:
    return "x".join(map(str, x.shape)) or "scalar"


def _listing(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
