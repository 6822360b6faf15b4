"""Data sources by name. A source has `len`, `[i] -> example`, and `where(i)` for messages."""

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

from pgjax.data.jsonl import JsonlSource
from pgjax.data.prepared_source import PreparedSource
from pgjax.data.scenes import SceneSource
from pgjax.data.tfds_source import TfdsSource
from pgjax.errors import UserError


class Source(Protocol):
    """Random access to examples; picklable, so that worker processes can have it."""

    def __len__(self) -> int:
        """Number of examples."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One example."""

    def where(self, index: int) -> str:
        """The example's place, as `file:line`, for people."""


SOURCES: dict[str, type] = {
    "jsonl": JsonlSource,
    "tfds": TfdsSource,
    "prepared": PreparedSource,
    "scenes": SceneSource,
}


def make_source(spec: Mapping[str, Any]) -> Source:
    """Opens `dict(name="jsonl", fname=…, split=…)`.

    Raises:
      UserError: unknown name or key, or a source that cannot be opened.
    """
    kwargs = dict(spec)
    name = kwargs.pop("name", None)
    if name not in SOURCES:
        raise UserError(f"data source {name!r} is unknown; choose from {list(SOURCES)}.")
    signature = inspect.signature(SOURCES[name])
    try:
        signature.bind(**kwargs)
    except TypeError as e:
        raise UserError(f"data source {name!r}: {e}; it takes {signature}.") from None
    return SOURCES[name](**kwargs)
