"""Compares what the processes of a run were given, before they compute anything together."""

import hashlib
import importlib.metadata
import pathlib
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

import pgjax
from pgjax.data.sources import Source
from pgjax.distributed import exchange
from pgjax.errors import UserError
from pgjax.training.run_lock import LOCK_FILE, read_holder

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
_SHOWN = 4  # differences that are told
_SEEN_SECONDS = 15  # until which a file system shows what another host has written


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a run's results depend on."""
    found = {"python": ".".join(map(str, sys.version_info[:3])), "pgjax": pgjax.__version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def data_identity(sources: Mapping[str, Source]) -> dict[str, Any]:
    """Tells whether sources have the same records: their number, and some of them hashed."""
    return {
        name: {"examples": len(source), "records": _hash_records(source)}
        for name, source in sources.items()
    }


def check_same(name: str, facts: Mapping[str, Any]) -> None:
    """Checks that all processes come with the same facts.

    Args:
      name: of what is compared, once in a run.
      facts: JSON values, nested in dicts, by the names to tell them by.

    Raises:
      UserError: what differs, and between which processes.
    """
    first, *others = exchange(name, facts)
    for k, other in enumerate(others, 1):
        if found := list(_differences(first, other, "")):
            shown, hidden = found[:_SHOWN], len(found) - _SHOWN
            more = f"; and {hidden} more" if hidden > 0 else ""
            told = [f"{key} is {a} in process 0 and {b} in process {k}" for key, a, b in shown]
            raise UserError(f"The processes of this run differ: {'; '.join(told)}{more}.")


def check_shared(workdir: pathlib.Path, token: str) -> None:
    """Checks that all processes see one workdir, by the lock that process 0 holds in it.

    Args:
      workdir: as this process names it.
      token: of the lock in process 0; any other value elsewhere.

    Raises:
      UserError: this process does not see that lock.
    """
    host = socket.gethostname()
    (token, first), *_ = exchange("workdir", [token, host])
    deadline = time.monotonic() + _SEEN_SECONDS
    while (holder := read_holder(workdir / LOCK_FILE)) is None or holder.token != token:
        if time.monotonic() > deadline:
            raise UserError(
                f"--workdir {workdir} of process {jax.process_index()} on {host} is not the one "
                f"of process 0 on {first}; all processes need one directory on a shared file "
                "system."
            )
        time.sleep(0.2)


def _differences(a: Any, b: Any, key: str) -> Iterable[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted(a.keys() | b.keys()):
            yield from _differences(a.get(name), b.get(name), f"{key}.{name}" if key else name)
    elif a != b:
        yield key, _short(a), _short(b)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}…"


def _hash_records(source: Source) -> str:
    digest = hashlib.sha256()
    for index in sorted({0, len(source) // 2, len(source) - 1}):
        try:
            _update(digest, source[index])
        except Exception as e:  # a bad record is told when it is its turn
            digest.update(type(e).__name__.encode())
    return digest.hexdigest()[:16]


def _update(digest: Any, value: Any) -> None:
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            digest.update(f"{key}:".encode())
            _update(digest, value[key])
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).data)
    elif isinstance(value, bytes):
        digest.update(value)
    elif isinstance(value, list | tuple):
        for item in value:
            _update(digest, item)
    else:
        digest.update(repr(value).encode(errors="surrogatepass"))
