"""Named parameter trees: flat names, first-match regex rules, and differences people can read."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pgjax.errors import UserError


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turns nested mappings into `{"a/b/c": leaf}`, in the mappings' own order."""
    flat = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, name + "/"))
        else:
            flat[name] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, leaf = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def first_match(
    rules: Sequence[tuple[str, Any]], names: Iterable[str], *, what: str
) -> dict[str, Any]:
    """Gives every name the value of the first rule whose regex matches it as a whole.

    Args:
      rules: `[(regex, value), ...]`.
      names: parameter names such as `llm/layers/attn/q_einsum/w`.
      what: the config key the rules came from, for the message.

    Raises:
      UserError: a name that no rule matches, a rule that matches no name, or a bad regex.
    """
    compiled = []
    for regex, value in rules:
        try:
            compiled.append((re.compile(regex), value))
        except re.error as e:
            raise UserError(f"{what}: {regex!r} is not a regular expression ({e}).") from None
    values, missing, used = {}, [], set()
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
    # A rule shadowed by earlier ones is fine; one that could match nothing at all is a typo.
    dead = [
        rules[i][0]
        for i, (pattern, _) in enumerate(compiled)
        if i not in used and not any(pattern.fullmatch(name) for name in values)
    ]
    if dead and values:
        raise UserError(
            f"{what}: {_listing(dead)} matches no parameter; names look like "
            f"{_listing(list(values)[:3])}."
        )
    return values


def check_same(expected: Mapping[str, Any], got: Mapping[str, Any], *, what: str) -> None:
    """Checks that two flat trees hold the same names with the same shapes.

    Raises:
      UserError: lists every difference at once, `-` for missing, `+` for left over and `!` for
        a wrong shape.
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


def _shape(x: Any) -> str:
    return "x".join(map(str, x.shape)) or "scalar"


def _listing(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
