"""The exceptions and notes that are addressed to users."""

import sys

MOST_SHOWN = 2_000  # characters at the beginning and at the end of a message
TEMPORARY = 75  # exit status EX_TEMPFAIL: the same command, started again, continues


class UserError(Exception):
    """A mistake in what the user has given, described in one sentence.

    The message says what is wrong, where (file and line, config key, or tensor name), what was
    found and what was expected. Commands print it without a traceback and exit with `status`.
    """

    status = 1  # exit status of a command that ends with this error

    def __str__(self) -> str:
        """The message, without the middle of a very long value in it."""
        said = super().__str__()
        cut = len(said) > 2 * MOST_SHOWN
        return f"{said[: MOST_SHOWN - 3]} … {said[-MOST_SHOWN:]}" if cut else said


class UsageError(UserError):
    """A flag, an argument of a command, or a value in a config that cannot be right."""

    status = 2


class ConfigError(UsageError):
    """A key of a config that is not known, or a value of another type or out of range."""


class DataError(UserError):
    """A record that cannot be used, which `on_bad_example="skip"` leaves out."""


class Stopped(UserError):
    """A run that was asked to stop and has saved its state; the same command continues it."""

    status = TEMPORARY


def note(text: str) -> None:
    """Prints to stderr what is not an error, but should be known to the user."""
    print(f"NOTE: {text}", file=sys.stderr, flush=True)
