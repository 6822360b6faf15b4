"""What a user is meant to read: the one exception, and notes."""

import sys

TEMPORARY = 75  # exit status (EX_TEMPFAIL): the same command, started again, goes on


class UserError(Exception):
    """A mistake in the input, said in one sentence.

    The message says what was wrong, where (file:line, config key, tensor name), what was found
    and what was expected. Command lines print it without a traceback and exit with `status`.
    """

    status = 1


class DataError(UserError):
    """A record that cannot be used; `on_bad_example=skip` may pass over it."""


class Stopped(UserError):
    """The run was asked to stop, has saved what it did, and goes on when it is started again."""

    status = TEMPORARY


def note(text: str) -> None:
    """Says on the error stream what is no mistake, but must not happen silently."""
    print(f"NOTE: {text}", file=sys.stderr, flush=True)
