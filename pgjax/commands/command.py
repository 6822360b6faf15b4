"""What all commands share: flags of their own, positional arguments, and parsing."""

import abc
import difflib
import re
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

from absl import flags

from pgjax.errors import UsageError, UserError

Text = TypeVar("Text", str, str | None)
Integer = TypeVar("Integer", int, int | None)

STEP_HELP = (
    "Which checkpoint of a run directory: its step, or best for the one that config.keep_best has "
    "kept; left out: the newest."
)


class Command(abc.ABC):
    """One invocation of a command: its flags, and what it does with them.

    A subclass defines its flags in `__init__`, by the methods below, and keeps what they return:
    after `parse`, `self.workdir.value` is the value of `--workdir`. The class's docstring is the
    text of `--help`, and its first line stands in the list of commands.

    Attributes:
      name: of the command, as it is typed after `pgjax`.
      arguments: the positional arguments as `--help` shows them, such as `SOURCE DEST` or
        `[NAME]`; `…` after the last where it may be repeated; "" for none.
      example: one whole command line.
      statuses: meanings of exit statuses beside 0 (done), 1 (an error) and 2 (wrong usage).
    """

    name: ClassVar[str]
    arguments: ClassVar[str] = ""
    example: ClassVar[str]
    statuses: ClassVar[dict[int, str]] = {}

    def __init__(self, argv: Sequence[str]):
        """Defines the flags that every command has.

        Args:
          argv: the arguments after the command's name.
        """
        # Booleans are denied as --noflag; --no-flag is understood as well.
        self.argv = [f"--no{arg[5:]}" if arg.startswith("--no-") else arg for arg in argv]
        self.positional: list[str] = []
        self.flags = flags.FlagValues()
        self.flags.set_gnu_getopt()  # flags may follow positional arguments
        self.common = {"debug"}  # flags that many commands have, explained last
        self.boolean("debug", False, "Show the traceback of an error.")

    @abc.abstractmethod
    def run(self) -> int | None:
        """Does the command's work, after `parse`; returns the exit status, None for 0."""

    def describe(self) -> str:
        """The text of `--help` before the flags."""
        return type(self).__doc__ or ""

    def text(self, name: str, default: Text, help: str) -> flags.FlagHolder[Text]:
        """Defines a flag that takes any text."""
        holder: Any = flags.DEFINE_string(name, default, help, flag_values=self.flags)
        return holder

    def boolean(self, name: str, default: bool, help: str) -> flags.FlagHolder[bool]:
        """Defines a flag that is given as `--name` or denied as `--noname`."""
        holder: Any = flags.DEFINE_bool(name, default, help, flag_values=self.flags)
        return holder

    def integer(
        self, name: str, default: Integer, help: str, least: int | None = None
    ) -> flags.FlagHolder[Integer]:
        """Defines a flag that takes a whole number, `least` or larger."""
        holder: Any = flags.DEFINE_integer(
            name, default, help, lower_bound=least, flag_values=self.flags
        )
        return holder

    def choice(
        self, name: str, default: Text, choices: Sequence[str], help: str
    ) -> flags.FlagHolder[Text]:
        """Defines a flag that takes one of a few words."""
        holder: Any = flags.DEFINE_enum(name, default, choices, help, flag_values=self.flags)
        return holder

    def items(self, name: str, help: str) -> flags.FlagHolder[list[str]]:
        """Defines a flag that takes texts separated by commas; [] where it is not given."""
        holder: Any = flags.DEFINE_list(name, [], help, flag_values=self.flags)
        return holder

    def repeated(self, name: str, help: str) -> flags.FlagHolder[list[str]]:
        """Defines a flag that may be given several times; [] where it is not given."""
        holder: Any = flags.DEFINE_multi_string(name, [], help, flag_values=self.flags)
        return holder

    def parse(self) -> None:
        """Reads the command line.

        Raises:
          UsageError: an unknown flag, a value that a flag does not take, a config that cannot be
            read, or a wrong number of positional arguments.
        """
        try:
            self.positional = self.flags([self.name, *self.argv])[1:]
        except flags.UnrecognizedFlagError as e:
            near = difflib.get_close_matches(e.flagname, list(self.flags), 1)
            hint = f"did you mean --{near[0]}?" if near else "--help lists them."
            raise UsageError(f"--{e.flagname} is not a flag of pgjax {self.name}; {hint}") from None
        except UserError:
            raise
        except flags.Error as e:
            raise UsageError(_reworded(one_line(e))) from e
        except Exception as e:  # ml_collections raises whatever an override runs into
            raise UsageError(f"The flags cannot be read: {one_line(e)}") from e
        if not self.accepts(len(self.positional)):
            raise UsageError(
                f"pgjax {self.name} got the arguments {self.positional}, expected "
                f"{self.arguments or 'none'}; flags look like --name=value."
            )

    def accepts(self, count: int) -> bool:
        """Whether the command takes this number of positional arguments."""
        words = self.arguments.removesuffix("…").split()
        least = sum(not word.startswith("[") for word in words)
        return least <= count and (count <= len(words) or self.arguments.endswith("…"))


def _reworded(message: str) -> str:
    """A message of absl's, without Python's names for what a text is not."""
    message = message.removeprefix("flag ").removesuffix(".")
    message = re.sub(r"could not convert string to float: .*", "expected a number", message)
    message = re.sub(r"invalid literal for int\(\) .*", "expected a whole number", message)
    return f"{message}."


def one_line(e: BaseException) -> str:
    """An exception's message without line breaks; the name of its type where it has none."""
    return " ".join(str(e).split()) or type(e).__name__
