"""The `pgjax` program: finds the command, runs it, and turns errors into one line and a status."""

import difflib
import importlib
import inspect
import os
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn

import pgjax
from pgjax.commands.command import Command, one_line
from pgjax.commands.distributed import DistributedCommand
from pgjax.commands.help_text import command_help, program_help
from pgjax.errors import UserError, refusal

# Command -> module of pgjax.commands, and the class in it.
COMMANDS = {
    "train": ("train", "Train"),
    "plan": ("plan", "Plan"),
    "evaluate": ("evaluate", "Evaluate"),
    "predict": ("predict", "Predict"),
    "demo": ("demo", "Demo"),
    "serve": ("serve", "Serve"),
    "convert": ("convert", "Convert"),
    "prepare": ("prepare", "Prepare"),
    "check-data": ("check_data", "CheckData"),
    "make-jsonl": ("make_jsonl", "MakeJsonl"),
    "report": ("report", "Report"),
    "conformance": ("conformance", "Conformance"),
    "list": ("list", "List"),
}
_OPEN_FILES = 4096  # workers, shards and connections of one process hardly need more
_FEWEST_OPEN_FILES = 128
_LONGEST = 300  # characters of a message that nobody has worded
_HELP = ("--help", "-help", "-h", "--helpfull", "--helpshort")


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits.

    Args:
      argv: the command and its arguments; None for those of this process.
    """
    name, *rest = (sys.argv[1:] if argv is None else [*argv]) or ["--help"]
    if name in _HELP or name == "help":
        _exit_after_print(program_help(_abouts()))
    if name == "--version":
        _exit_after_print(f"pgjax {pgjax.__version__}")
    if name not in COMMANDS:
        near = difflib.get_close_matches(name.replace("_", "-"), COMMANDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(COMMANDS)}."
        _fail(None, f"{name!r} is not a command of pgjax; {hint}", 2)
    command = None
    try:
        _allow_open_files()
        command = command_class(name)(rest)
        if any(arg in _HELP for arg in rest):
            _exit_after_print(command_help(command))
        command.parse()
        status = command.run() or 0
        if isinstance(command, DistributedCommand):
            command.leave_processes()
        sys.exit(status)
    except UserError as e:
        if isinstance(command, DistributedCommand) and e.__cause__:
            command.await_explanation()  # such as of a save that another process does not join
        _fail(command, str(e), e.status)
    except KeyboardInterrupt:
        _fail(command, "Interrupted; files that were finished before are complete.", 130)
    except BrokenPipeError:  # whoever reads the output, such as `head`, has seen enough
        _close_output()
    except Exception as e:
        if isinstance(command, DistributedCommand):
            command.await_explanation()
        _fail(command, _unforeseen(e, name, rest), 1)


def command_class(name: str) -> type[Command]:
    """The class of a command, by its name in `COMMANDS`."""
    module, found = COMMANDS[name]
    return getattr(importlib.import_module(f"pgjax.commands.{module}"), found)


def _abouts() -> Iterator[tuple[str, str]]:
    for name in COMMANDS:
        yield name, inspect.cleandoc(command_class(name).__doc__ or "").split("\n")[0]


def _exit_after_print(text: str) -> NoReturn:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _close_output()
    sys.exit(0)


def _close_output() -> NoReturn:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(128 + signal.SIGPIPE)


def _allow_open_files() -> None:
    """Allows this process as many open files as the system lets it have.

    Raises:
      UserError: these are so few that libraries would fail in the middle of the work.
    """
    try:
        import resource
    except ImportError:  # not on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft != resource.RLIM_INFINITY and soft < _FEWEST_OPEN_FILES:
        raise UserError(
            f"This process may have {soft} open files, expected {_FEWEST_OPEN_FILES} or more; "
            f"`ulimit -n {_OPEN_FILES}` before it allows that."
        )


def _unforeseen(e: Exception, name: str, rest: Sequence[str]) -> str:
    """One sentence about an error that is no `UserError`.

    What the machine refuses needs no more; of all else, the traceback is in a file that the
    sentence names, or on the screen where no file can be written.
    """
    what = f"{type(e).__name__}: {one_line(e)[:_LONGEST]}"
    if "--debug" in rest or isinstance(e, MemoryError):
        return f"{what}."
    if reason := refusal(e):
        return f"The system refuses {getattr(e, 'filename', None) or 'a file'} ({reason})."
    text = traceback.format_exc()
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="pgjax_error_", suffix=".txt", delete=False
        ) as file:
            file.write(f"pgjax {pgjax.__version__}: {name} {shlex.join(rest)}\n\n{text}")
    except OSError:
        print(text, end="", file=sys.stderr)
        return f"Unexpected {what}; please report it with the lines above."
    return f"Unexpected {what}; please report it with {file.name}, which has the traceback."


def _fail(command: Command | None, message: str, status: int) -> NoReturn:
    if command and "--debug" in command.argv and sys.exc_info()[0] is not None:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr, flush=True)
    if isinstance(command, DistributedCommand):
        command.leave_processes(status, message)
    sys.exit(status)
