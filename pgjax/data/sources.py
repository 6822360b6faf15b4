"""Data sources by name, and what a data source is."""

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

from pgjax.errors import UserError
from pgjax.registry import SOURCES


class Source(Protocol):
    """Random access to examples.

    A source is pickled for worker processes. A class of one's own is registered with
    `@SOURCES.register(name)`; the other keys of a config's `data` are the arguments of its
    constructor.
    """

    def __len__(self) -> int:
        """Returns the number of examples."""
        ...

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        """Returns one example; its `image` may be encoded bytes or an array."""
        ...

    def where(self, index: int, /) -> str:
        """Returns the example's place for messages, such as `file:line`."""
        ...


def make_source(spec: Mapping[str, Any]) -> Source:
    """Opens a data source.

    Args:
      spec: `name` in `SOURCES`, and the source's arguments: `dict(name="jsonl", fname=…)`.

    Raises:
      UserError: an unknown name or argument, or a source that cannot be opened.
    """
    arguments = dict(spec)
    name = arguments.pop("name", None)
    source = SOURCES.find(name, "data.name")
    signature = inspect.signature(source)
    try:
        signature.bind(**arguments)
    except TypeError as e:
        plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        takes = signature.replace(parameters=plain, return_annotation=signature.empty)
        raise UserError(f"Data source {name!r}: {e}; it takes {takes}.") from None
    return source(**arguments)
