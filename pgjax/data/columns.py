"""Which columns of a table, or keys of a line, are the image, the prompt and the target."""

import difflib
from collections.abc import Collection
from typing import Any, NamedTuple

from pgjax.errors import DataError

IMAGE = "image"


class Columns(NamedTuple):
    """Names of columns; "" for `prefix` and `suffix` means the columns of these names, if any."""

    image: str = IMAGE
    prefix: str = ""
    suffix: str = ""

    def check(self, known: Collection[str]) -> None:
        """Checks that there are the columns.

        Raises:
          DataError: one is missing; the message says the nearest.
        """
        for role, name in self._asdict().items():
            if name and name not in known:
                near = difflib.get_close_matches(name, known, 1, 0.0)
                raise DataError(
                    f"there is no {name!r}, which is to be the {role}; the nearest of "
                    f"{sorted(known)} is {near[0]!r}."
                    if near
                    else f"there is no {name!r}, which is to be the {role}, and nothing else."
                )

    def named(self, row: dict[str, Any]) -> dict[str, Any]:
        """Returns an example: the row with its columns named `image`, `prefix` and `suffix`.

        Raises:
          DataError: as `check`.
        """
        self.check(row)
        chosen = {role: row[name] for role, name in self._asdict().items() if name}
        taken = set(self)
        return {k: v for k, v in row.items() if k not in taken} | chosen
