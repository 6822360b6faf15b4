"""Every key of a config in words: what `pgjax train --help_config` and the reference page show."""

import dataclasses
import difflib
import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

from ml_collections import config_dict

from pgjax.config import named, options
from pgjax.config.sections import EvalConfig, MixtureEntry, RunConfig
from pgjax.errors import ConfigError
from pgjax.schema import Entry, describe, entries, field, is_section

_NAME = "NAME"  # stands for the name of an entry, in `evals.NAME.kind`
_SECTIONS = {"input.mixture": MixtureEntry, "evals": EvalConfig}


@dataclasses.dataclass(frozen=True)
class Key:
    """One key, as the reference shows it."""

    name: str  # dotted, without `config`
    of: str  # what has the key, such as "optimizer adam"; "" where every config has it
    entry: Entry

    @property
    def default(self) -> str:
        """The default as Python writes it; "required" where there is none."""
        if self.entry.required:
            return "required"
        value = self.entry.default
        return "a section" if dataclasses.is_dataclass(value) else repr(value)

    @property
    def fits(self) -> str:
        """Type, range and unit in words."""
        unit = self.entry.rule.unit
        return describe(self.entry) + (f" ({unit})" if unit else "")


def all_keys() -> list[Key]:
    """Every key there is: of the sections, and of what a config names with options of its own."""
    return list(_keys(RunConfig, ""))


def _keys(section: type, prefix: str) -> Iterator[Key]:
    for name, entry in (entries(section) or {}).items():
        dotted = f"{prefix}{name}"
        if is_section(entry.kind):
            yield from _keys(entry.kind, f"{dotted}.")
            continue
        yield Key(dotted, "", entry)
        if dotted in _SECTIONS:
            yield from _keys(_SECTIONS[dotted], f"{dotted}.{_NAME}.")
        for of, skip, what in _options(dotted):
            for option in (entries(of, skip) or {}).values():
                yield Key(f"{dotted}.{option.name}", what, _documented(of, option))


def _options(key: str) -> Iterator[tuple[Any, tuple[str, ...], str]]:
    """What has options under a key: (what `entries` takes, parameters to skip, its name)."""
    if key in ("model.img", "model.llm"):
        section, variants, _ = named.tower_sizes(key.removeprefix("model."))
        variant = field("", choices=tuple(variants), doc="Name of a variant that has all sizes.")
        yield dataclasses.make_dataclass("Variant", [("variant", str, variant)]), (), ""
        yield section, (), "default: the variant's"
    elif key == "optimizer.args":
        for of in dict.fromkeys(options.OPTIMIZERS.values()):
            names = [name for name, x in options.OPTIMIZERS.items() if x is of]
            yield of, (), f"optimizer {', '.join(names)}"
    elif key == "input.data":
        name = field(choices=tuple(named.sources()), doc="Which data source.")
        yield dataclasses.make_dataclass("Source", [("name", str, name)]), (), ""
        known = named.sources()
        for of in dict.fromkeys(known.values()):
            yield of, (), f"source {', '.join(name for name, x in known.items() if x is of)}"
    elif key == "evals.NAME.metric":
        name = field(choices=tuple(named.metrics()), doc="Which metric.")
        yield dataclasses.make_dataclass("Metric", [("name", str, name)]), (), ""
        for name, metric in named.metrics().items():
            yield *named.metric_options(metric), f"metric {name}"


def _documented(of: Any, entry: Entry) -> Entry:
    """The entry with the documentation that a docstring has for an argument, if it has none."""
    if entry.rule.doc:
        return entry
    text = f"{inspect.getdoc(of)}\n{inspect.getdoc(getattr(of, '__init__', None))}\n"
    found = re.search(rf"^ +{entry.name}: (.*(?:\n {{4,}}.*)*)", text, re.MULTILINE)
    doc = " ".join(found[1].split()) if found else ""
    doc = doc[:1].upper() + doc[1:]
    return dataclasses.replace(entry, rule=dataclasses.replace(entry.rule, doc=doc))


def text(key: str | None = None) -> str:
    """The reference for a terminal.

    Args:
      key: dotted, with or without `config`; a section for all its keys; None for everything.

    Raises:
      ConfigError: there is no such key.
    """
    known = all_keys()
    if key is None:
        return "\n".join(_line(k) for k in known)
    key = key.removeprefix("config.").strip(".")
    asked = _as_listed(key)
    found = [k for k in known if _fits(k.name, asked)]
    inside = [k for k in known if any(k.name.startswith(f"{x}.") for x in {asked, *_names(found)})]
    if not found and not inside:
        near = difflib.get_close_matches(key, [k.name for k in known], 1)
        same = [k.name for k in known if k.name.rpartition(".")[2] == key.rpartition(".")[2]]
        hint = f"the nearest is config.{[*same, *near][0]}" if same or near else "see --help_config"
        raise ConfigError(f"config.{key} is not a known key; {hint}.")
    return "\n\n".join([_block(k) for k in found] + ["\n".join(map(_line, inside))] * bool(inside))


def markdown() -> str:
    """The reference page: a table for each section."""
    lines = ["# Config reference", "", "Every key of a config, generated from `pgjax/config`."]
    sections: dict[str, list[Key]] = {}
    for key in all_keys():
        sections.setdefault(key.name.rpartition(".")[0], []).append(key)
    for section, inside in sections.items():
        lines += ["", f"## `config.{section}`" if section else "## `config`", ""]
        lines += ["| Key | Default | Value | Meaning |", "| --- | --- | --- | --- |"]
        for key in inside:
            cells = (f"`{key.name}`", f"`{key.default}`", key.fits, _meaning(key))
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def default_of(key: str) -> Any:
    """What a config file can set a key to, so that a flag can change it.

    Args:
      key: dotted, without `config`; it need not be a key that every config has.

    Returns:
      The key's default, as a placeholder of its type where that is None; `dataclasses.MISSING`
      where there is no such key, or no default.
    """
    found = (k.entry for k in all_keys() if _fits(k.name, _as_listed(key)))
    entry = next((e for e in found if not e.required), None)
    if entry is None:
        return dataclasses.MISSING
    if entry.default is None:
        kinds = [k for k in typing.get_args(entry.kind) if k is not type(None)]
        return config_dict.placeholder(kinds[0] if kinds else str)
    return entry.default


def _as_listed(key: str) -> str:
    """The same key where the reference has it: arguments of data sources are listed once."""
    return re.sub(r"^(evals|input\.mixture)\.[^.]+\.data\.", "input.data.", key)


def _names(keys: list[Key]) -> set[str]:
    return {key.name for key in keys}


def _fits(name: str, key: str) -> bool:
    """Whether a key is meant, with an entry's own name where the reference has `NAME`."""
    parts, given = name.split("."), key.split(".")
    return len(parts) == len(given) and all(
        a in (_NAME, b) for a, b in zip(parts, given, strict=True)
    )


def _line(key: Key) -> str:
    return f"config.{key.name} = {key.default}: {_meaning(key)}"


def _block(key: Key) -> str:
    return f"config.{key.name}\n  {_meaning(key)}\n  Default: {key.default}\n  Value: {key.fits}."


def _meaning(key: Key) -> str:
    doc = key.entry.rule.doc
    return f"{doc} ({key.of})".strip() if key.of else doc
