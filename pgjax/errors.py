"""What a user is meant to read: the one exception, and notes."""

import sys


class UserError(Exception):
    """A mistake in the input, said in one sentence.

    The message says what was wrong, where (file:line, config key, tensor name), what was found
    and what was expected. Command lines print it without a traceback and exit with its status.
    """

    status = 1


class ConfigError(UserError):
    """A value of a config that has another type than its key, is out of range, or is misspelt."""

    status = 2


class DataError(UserError):
    """A record that cannot be used; `on_bad_example=skip` may pass over it."""


def note(text: str) -> None:
    """Says on the error stream what is no mistake, but must not happen silently."""
    print(f"NOTE: {text}", file=sys.stderr, flush=True)
