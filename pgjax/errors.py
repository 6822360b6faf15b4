"""The exceptions and notes that are addressed to users."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

MOST_SHOWN = 2_000  # characters at the beginning and at the end of a message
TEMPORARY = 75  # exit status EX_TEMPFAIL: the same command, started again, continues

# What an operating system refuses a program that is right.
_REFUSALS = [
    os.strerror(code)
    for code in (
        errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
        errno.EMFILE, errno.ENFILE, errno.ENOMEM,
    )
]  # fmt: skip


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


def refusal(e: BaseException) -> str:
    """What the operating system refused, in its words; "" where an error has another reason.

    Libraries in C++ or Rust raise errors of their own, in whose text those words are.
    """
    return next((reason for reason in _REFUSALS if reason in str(e)), "")


@contextlib.contextmanager
def writing(path: os.PathLike | str) -> Iterator[None]:
    """Turns what keeps a file or a folder from being written into one sentence.

    Raises:
      UserError: an `OSError` was raised inside, or what a library makes of one.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as e:
        reason = refusal(e) or (isinstance(e, OSError) and (e.strerror or str(e)))
        if not reason:
            raise
        raise UserError(
            f"{path} cannot be written ({reason}); what was finished before is whole: when it can "
            "be written, the same command goes on."
        ) from None


def note(text: str) -> None:
    """Prints to stderr what is not an error, but should be known to the user."""
    print(f"NOTE: {text}", file=sys.stderr, flush=True)
