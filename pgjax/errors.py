"""What a user is meant to read: exceptions with one-sentence messages, and notes."""

import sys


class UserError(Exception):
    """A mistake in the input, said in one sentence.

    The message says what was wrong, where (file:line, config key, tensor name), what was found
    and what was expected. Command lines print it without a traceback and exit with `status`.
    """

    status = 1  # exit status of a command that ends with this error


class UsageError(UserError):
    """A flag, an argument of a command, or a value in a config that cannot be right."""

    status = 2


class DataError(UserError):
    """A record that cannot be used; `on_bad_example=skip` may pass over it."""


def note(text: str) -> None:
    """Says on the error stream what is no mistake, but must not happen silently."""
    print(f"NOTE: {text}", file=sys.stderr, flush=True)
