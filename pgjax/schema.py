"""Typed values: one parser for what configs, command lines and files give.

A frozen dataclass describes a mapping: each field has a type and, by `field(…)`, one line of
documentation, a range or choices, and a unit. `parse` turns a mapping into the dataclass and
`to_dict` turns it back; `bind` does the same for the arguments of a function, whose parameters say
their ranges with `Annotated[int, Rule(at_least=1)]`. A value that does not fit is a `ConfigError`
of one sentence, which names the dotted key, the value and what was expected.

Types: bool, int, float (a whole number is taken, nan and infinity are not), str, `X | None`,
`tuple[X, ...]`, `tuple[X, Y]`, `Mapping[str, X]`, `Sequence[X]`, `Collection[X]`, dataclasses and
Any.
"""

import collections.abc
import dataclasses
import difflib
import functools
import inspect
import json
import math
import operator
import pathlib
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeGuard, TypeVar

from pgjax.errors import ConfigError, UserError

T = TypeVar("T")
_RULE = "rule"
_LONGEST = 80  # characters of a value in a message
_MANY = 12  # choices, from which on a message does not list them beside the nearest
_TOO_MANY = 60  # choices that a message does not list
_CLOSE = 0.6  # of a key that is proposed instead of an unknown one


@dataclasses.dataclass(frozen=True)
class Rule:
    """What is known of a value besides its type."""

    doc: str = ""
    unit: str = ""
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    also: tuple[Any, ...] = ()  # values outside the range that have a meaning of their own
    choices: Sequence[Any] | Callable[[], Iterable[Any]] = ()
    regex: bool = False  # whether text must be a regular expression
    empty: bool = True  # whether text or a list may be empty
    check: Callable[[Any, str], Any] | None = None  # (value, key) -> value, after the type's parser
    expected: str = ""  # the description of what fits, where type and range do not say it

    def allowed(self) -> tuple[Any, ...]:
        """The choices; () where there is no such list."""
        return tuple(self.choices() if callable(self.choices) else self.choices)

    def range(self) -> str:
        """The range in words, such as `of at least 0 and below 1`; "" for none."""
        if self.at_least is not None and self.at_most is not None:
            limits = f"from {_plain(self.at_least)} to {_plain(self.at_most)}"
        else:
            given = (
                ("at least", self.at_least),
                ("above", self.above),
                ("at most", self.at_most),
                ("below", self.below),
            )
            limits = " and ".join(f"{words} {_plain(x)}" for words, x in given if x is not None)
            limits = f"of {limits}" if limits.startswith("at ") else limits
        return limits + "".join(f", or {x!r}" for x in self.also)

    def holds(self, value: float) -> bool:
        """Whether a number is in the range."""
        return value in self.also or not (
            (self.at_least is not None and value < self.at_least)
            or (self.above is not None and value <= self.above)
            or (self.at_most is not None and value > self.at_most)
            or (self.below is not None and value >= self.below)
        )


_NO_RULE = Rule()


def is_section(kind: Any) -> TypeGuard[type]:
    """Whether a type is a dataclass, whose fields are keys of a section."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


_SEVERAL = (
    tuple,
    list,
    collections.abc.Sequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)


def field(
    default: Any = dataclasses.MISSING, *, factory: Callable[[], Any] | None = None, **rule: Any
) -> Any:
    """A field of a frozen dataclass with a `Rule`.

    Args:
      default: its default; without one, the key must be given.
      factory: makes the default, where that is a mapping.
      **rule: the fields of `Rule`.
    """
    metadata = {_RULE: Rule(**rule)}
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One key of a section: its name, type, default (`dataclasses.MISSING` for none) and rule."""

    name: str
    kind: Any
    default: Any
    rule: Rule

    @property
    def required(self) -> bool:
        """Whether the key must be given."""
        return self.default is dataclasses.MISSING


@functools.cache
def entries(of: Any, skip: tuple[str, ...] = ()) -> dict[str, Entry] | None:
    """The keys of a dataclass or of a function's parameters, by name.

    Args:
      of: a dataclass, another class, or a function.
      skip: parameters that whoever calls the function supplies.

    Returns:
      The keys, or None for a function that takes any keyword.
    """
    if dataclasses.is_dataclass(of):
        hints = typing.get_type_hints(of, include_extras=True)
        return {
            f.name: _entry(f.name, hints[f.name], _default(f), f.metadata.get(_RULE))
            for f in dataclasses.fields(of)
            if f.init and f.name not in skip
        }
    parameters = list(inspect.signature(of).parameters.values())
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    try:
        hints = typing.get_type_hints(getattr(of, "__init__", of) if inspect.isclass(of) else of,
                                      include_extras=True)  # fmt: skip
    except (NameError, TypeError, AttributeError):  # annotations that only a type checker reads
        hints = {}
    return {
        p.name: _entry(
            p.name,
            hints.get(p.name, Any),
            dataclasses.MISSING if p.default is p.empty else p.default,
            None,
        )
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in skip
    }


def _entry(name: str, kind: Any, default: Any, rule: Rule | None) -> Entry:
    if typing.get_origin(kind) is typing.Annotated:
        kind, *extras = typing.get_args(kind)
        rule = rule or next((x for x in extras if isinstance(x, Rule)), None)
    return Entry(name, kind, default, rule or _NO_RULE)


def _default(f: dataclasses.Field) -> Any:
    return f.default if f.default_factory is dataclasses.MISSING else f.default_factory()


def parse(cls: type[T], given: Any, key: str, *, ignore_unknown: bool = False) -> T:
    """A mapping as a dataclass; keys that are not given have their defaults.

    Args:
      cls: the dataclass.
      given: the mapping, or an instance of the dataclass, which is returned as it is.
      key: where the mapping stands, such as `config.optimizer`, for messages.
      ignore_unknown: whether further keys are passed over, as in files that others write.

    Raises:
      ConfigError: an unknown or missing key, or a value that does not fit.
    """
    if isinstance(given, cls):
        return given
    return cls(**_arguments(entries(cls) or {}, given, key, ignore_unknown))


def bind(
    function: Any,
    given: Mapping[str, Any],
    key: str,
    skip: tuple[str, ...] = (),
    beside: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The keyword arguments of a function, parsed by its signature or by a dataclass's fields.

    Args:
      function: or class.
      given: the arguments by name.
      key: where they stand, for messages.
      skip: parameters that whoever calls the function supplies.
      beside: further keys that stand in the same section, and might have been meant.

    Raises:
      ConfigError: as `parse`.
    """
    known = entries(function, skip)
    if known is None:
        return dict(given)
    if unknown := [name for name in given if name not in known]:
        raise UnknownKey(key, unknown[0], [*beside, *known])
    return _arguments(known, given, key, False)


def _arguments(
    known: Mapping[str, Entry], given: Any, key: str, ignore_unknown: bool
) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise wrong(key, given, f"a section with the keys {_listed(known)}")
    if not ignore_unknown:
        for name in given:
            if name not in known:
                raise UnknownKey(key, name, list(known))
    if missing := [name for name, e in known.items() if e.required and name not in given]:
        raise ConfigError(f"{key}.{missing[0]} is missing; expected {describe(known[missing[0]])}.")
    return {
        name: parse_value(e.kind, given[name], dotted(key, name), e.rule)
        for name, e in known.items()
        if name in given
    }


class UnknownKey(ConfigError):
    """A key that a section does not have."""

    def __init__(self, section: str, name: Any, known: Sequence[str], near: str = "") -> None:
        """Says which key is nearest.

        Args:
          section: dotted key of the section.
          name: the unknown key.
          known: the keys of the section.
          near: dotted key of the nearest one; "" to look for it in the section.
        """
        close = difflib.get_close_matches(str(name), known, 1, _CLOSE)
        self.section, self.name, self.found = section, name, bool(close)
        if near or close:
            hint = f"the nearest is {near or dotted(section, close[0])}"
        else:
            hint = f"{section} takes {_listed(known)}" if known else f"{section} takes none"
        super().__init__(f"{dotted(section, name)} is not a known key; {hint}.")


def parse_value(kind: Any, value: Any, key: str, rule: Rule = _NO_RULE) -> Any:
    """One value of a type.

    Raises:
      ConfigError: it has another type or is out of range.
    """
    if typing.get_origin(kind) is typing.Annotated:
        kind, *extras = typing.get_args(kind)
        rule = next((x for x in extras if isinstance(x, Rule)), rule)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        value = value.item()
    if (allowed := rule.allowed()) and not any(
        value == x and isinstance(value, bool) == isinstance(x, bool) for x in allowed
    ):
        near = difflib.get_close_matches(value, map(str, allowed), 1) if _is_text(value) else []
        hint = f", of which {near[0]!r} is the nearest" if near and len(allowed) > 2 else ""
        short = f"one of {len(allowed)} names" if hint and len(allowed) > _MANY else ""
        raise wrong(key, value, (short or expectation(kind, rule)) + hint)
    given, value = value, _typed(kind, value, key, rule)
    if _is_number(value) and not rule.holds(value):
        raise wrong(key, given, expectation(kind, rule))
    if not rule.empty and isinstance(value, Sequence | Mapping) and not len(value):
        raise wrong(key, value, expectation(kind, rule))
    if rule.regex and isinstance(value, str):
        try:
            re.compile(value)
        except (re.error, RecursionError, OverflowError) as e:
            raise wrong(key, value, f"a regular expression ({e})") from None
    return rule.check(value, key) if rule.check else value


def _typed(kind: Any, value: Any, key: str, rule: Rule) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _one_of(args, value, key, rule)
    if origin is typing.Literal:
        if value in args:
            return value
    elif is_section(kind):
        return parse(kind, value, key)
    elif origin in (dict, collections.abc.Mapping):
        if isinstance(value, Mapping):
            for name in value:
                if not _is_text(name) or not name:
                    raise ConfigError(f"{key} has the key {name!r}; expected names.")
            return {n: parse_value(args[1], x, dotted(key, n)) for n, x in value.items()}
    elif origin in _SEVERAL:
        return _several(args, value, key, rule, kind)
    elif origin is not None and not isinstance(value, str | bool | int | float):
        return value  # a type that only its function can check
    elif kind is bool:
        if isinstance(value, bool):
            return value
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif kind is float:
        if _is_number(value):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if math.isfinite(number):
                return number
    elif kind is str:
        if _is_text(value):
            return str(value)
    elif origin or not inspect.isclass(kind) or isinstance(value, kind):
        return value  # an annotation of an extension that is not among those above is not checked
    raise wrong(key, value, expectation(kind, rule))


def _one_of(kinds: Sequence[Any], value: Any, key: str, rule: Rule) -> Any:
    if value is None and type(None) in kinds:
        return None
    for kind in kinds:
        try:
            return _typed(kind, value, key, rule)
        except ConfigError:
            continue
    raise wrong(key, value, expectation(functools.reduce(operator.or_, kinds), rule))


def _several(args: Sequence[Any], value: Any, key: str, rule: Rule, kind: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise wrong(key, value, expectation(kind, rule))
    if len(args) == 2 and args[1] is not Ellipsis and typing.get_origin(kind) is tuple:
        if len(value) != len(args):
            raise wrong(key, value, expectation(kind, rule))
        kinds: Iterable[Any] = args
    else:
        kinds = [args[0]] * len(value)
    return tuple(
        parse_value(k, x, f"{key}[{i}]") for i, (k, x) in enumerate(zip(kinds, value, strict=True))
    )


def to_dict(section: Any) -> dict[str, Any]:
    """A dataclass as a plain dict of dicts, tuples, numbers and text, which JSON can hold."""
    return dataclasses.asdict(section)


def wrong(key: str, value: Any, expected: str) -> ConfigError:
    """The error of a value that does not fit."""
    return ConfigError(f"{key} is {shown(value)}; expected {expected}.")


def shown(value: Any) -> str:
    """A value for a message, on one line and not too long."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # of whole numbers with thousands of digits
        text = f"a {type(value).__name__} that is too long to print"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _plain(limit: float) -> str:
    return f"{int(limit)}" if limit == int(limit) else f"{limit:g}"


def dotted(section: str, name: Any) -> str:
    """The dotted key of a name in a section."""
    name = str(name) if _is_text(name) and re.fullmatch(r"[\w.-]+", name) else shown(name)
    return f"{section}.{name}" if section else name


def describe(entry: Entry) -> str:
    """What fits a key, in words."""
    return expectation(entry.kind, entry.rule)


def expectation(kind: Any, rule: Rule = _NO_RULE) -> str:
    """What fits a type and rule, in words."""
    if rule.expected:
        return rule.expected
    if allowed := rule.allowed():
        if len(allowed) > _TOO_MANY:
            return f"one of {len(allowed)} names, such as {allowed[1]!r} and {allowed[-1]!r}"
        return f"one of {', '.join(map(repr, allowed))}"
    if typing.get_origin(kind) is typing.Annotated:
        kind, *extras = typing.get_args(kind)
        return expectation(kind, next((x for x in extras if isinstance(x, Rule)), rule))
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    limits = rule.range()
    if kind is bool:
        return "True or False"
    if kind in (int, float):
        word = "a whole number" if kind is int else "a finite number"
        return f"{word} {limits}".rstrip()
    if kind is str:
        return "a regular expression" if rule.regex else "text" if rule.empty else "text, not empty"
    if kind is type(None):
        return "None"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(expectation(k, rule) for k in args)
    if origin is typing.Literal:
        return f"one of {', '.join(map(repr, args))}"
    if origin is tuple and args[-1] is not Ellipsis:
        return f"a pair of {' and '.join(expectation(k) for k in args)}"
    if origin in _SEVERAL:
        return (
            f"a list{'' if rule.empty else ', not empty,'} of which each is {expectation(args[0])}"
        )
    if dataclasses.is_dataclass(kind):
        return f"a section with the keys {_listed(entries(kind) or {})}"
    if origin in (dict, collections.abc.Mapping):
        return "a section of named entries"
    return f"a {getattr(kind, '__name__', kind)}"


def read_json(path: pathlib.Path, missing: str = "") -> dict[str, Any]:
    """The object that a JSON file holds.

    Args:
      path: of the file.
      missing: what to say where there is no such file, without the full stop.

    Raises:
      UserError: the file is missing, cannot be read, is not JSON, or holds something else.
    """
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{missing or f'{path} does not exist'}.") from None
    except json.JSONDecodeError as e:
        raise UserError(f"{path}:{e.lineno} is not JSON ({e.msg}).") from None
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{path} cannot be read ({' '.join(str(e).split())}).") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a JSON {type(found).__name__}, expected an object.")
    return found


def parse_file(cls: type[T], given: Any, path: pathlib.Path | str, key: str = "") -> T:
    """What a JSON file holds, as a dataclass; keys that the dataclass lacks are passed over.

    Args:
      cls: the dataclass.
      given: the file's content, or a part of it.
      path: the file, for messages.
      key: of the part, for messages.

    Raises:
      UserError: a missing key or a value that does not fit; the message names file and key.
    """
    try:
        return parse(cls, given, key, ignore_unknown=True)
    except ConfigError as e:
        raise UserError(f"{path}: {str(e).lstrip('.')}") from None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
