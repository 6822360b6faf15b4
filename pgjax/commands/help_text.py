"""The texts of `pgjax --help` and `pgjax COMMAND --help`."""

import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from absl.flags import BooleanParser

from pgjax.commands.command import Command

WIDTH = 96
_STATUSES = {
    0: "done",
    1: "an error, said in one sentence on the error stream",
    2: "a flag, an argument or a value of the config is wrong",
}


def command_help(command: Command) -> str:
    """What a command does, its flags with their defaults, an example, and its exit statuses."""
    usage = f"pgjax {command.name} {command.arguments}".rstrip()
    statuses = {**_STATUSES, **command.statuses}
    flags = sorted(command.flags, key=command.common.__contains__)  # those come last
    lines = [
        inspect.cleandoc(command.describe()),
        "",
        f"Usage: {usage} [--flag=value …]",
        "",
        "Flags, as --name=value or --name value:",
        *(line for name in flags for line in _flag_lines(command.flags[name])),
        "",
        "Example:",
        f"  {command.example}",
        "",
        "Exit status:",
        *(f"  {status:<4}{statuses[status]}" for status in sorted(statuses)),
    ]
    return "\n".join(lines)


def program_help(commands: Iterable[tuple[str, str]]) -> str:
    """The list of commands, from (name, what it does in one line)."""
    lines = [
        "PaliGemma in JAX: fine-tunes, evaluates and asks it.",
        "",
        "Usage: pgjax COMMAND [--flag=value …]",
        "",
        *(f"  {name:<12}{about}" for name, about in commands),
        "",
        "pgjax COMMAND --help explains one of them; pgjax --version says which version this is.",
    ]
    return "\n".join(lines)


def _flag_lines(flag: Any) -> Iterator[str]:
    yield f"  --{_spelling(flag)}"
    text = " ".join((flag.help or "").split())
    text = re.sub(r"^<\S+>: ", "", text)  # absl's list of choices, which stands above
    if (default := _default(flag)) is not None:
        text = f"{text} Default: {default}."
    yield from textwrap.wrap(text, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _spelling(flag: Any) -> str:
    if flag.boolean:
        takes_text = not isinstance(flag.parser, BooleanParser)
        return f"{flag.name}[=KEY]" if takes_text else f"[no]{flag.name}"
    if choices := getattr(flag.parser, "enum_values", None):
        return f"{flag.name}={'|'.join(choices)}"
    words = {"int": "NUMBER", "comma separated list of strings": "TEXT,…"}
    least = getattr(flag.parser, "lower_bound", None)
    kind = words.get(flag.flag_type(), "TEXT")
    return f"{flag.name}={kind}" + (f" ({least} or larger)" if least is not None else "")


def _default(flag: Any) -> str | None:
    if isinstance(flag.parser, BooleanParser):
        return str(bool(flag.default)).lower()
    return None if flag.default in (None, "", []) else str(flag.default)
