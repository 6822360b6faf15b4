"""JSON files whose values are checked as they are read."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from pgjax import schema
from pgjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class JsonObject:
    """An object in a JSON file.

    A key that is missing, or null, takes the default; without a default it is an error.

    Attributes:
      path: the file.
      values: the object's keys and values.
      prefix: where the object is in the file, such as `text_config.`.
    """

    path: pathlib.Path
    values: Mapping[str, Any]
    prefix: str = ""

    def section(self, key: str, *, optional: bool = False) -> "JsonObject":
        """Returns an object inside of this one, or an empty one if it is `optional`."""
        default = {} if optional else None
        values = self._read(key, default, lambda x: isinstance(x, dict), "an object")
        return JsonObject(self.path, values, f"{self.prefix}{key}.")

    def integer(self, key: str, default: int | None = None, *, high: int = 2**31 - 1) -> int:
        """Returns an integer from 1 to `high`."""
        return self._read(
            key,
            default,
            lambda x: isinstance(x, int) and not isinstance(x, bool) and 1 <= x <= high,
            f"an integer from 1 to {high}",
        )

    def number(self, key: str, default: float | None = None, *, low: float = 0.0) -> float:
        """Returns a finite number that is at least `low`."""
        return float(
            self._read(
                key,
                default,
                lambda x: (
                    isinstance(x, int | float)
                    and not isinstance(x, bool)
                    and math.isfinite(x)
                    and x >= low
                ),
                f"a number of at least {low:g}",
            )
        )

    def text(self, key: str, default: str | None = None) -> str:
        """Returns a string."""
        return self._read(key, default, lambda x: isinstance(x, str), "a string")

    def flag(self, key: str, default: bool | None = None) -> bool:
        """Returns true or false."""
        return self._read(key, default, lambda x: isinstance(x, bool), "true or false")

    def error(self, key: str, expected: str) -> UserError:
        """Makes the error for the value of a key."""
        got = json.dumps(self.values[key])[:100] if key in self.values else "missing"
        return UserError(f"{self.path}: {self.prefix}{key} is {got}, expected {expected}.")

    def _read(self, key: str, default: Any, is_valid: Callable[[Any], bool], expected: str) -> Any:
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not is_valid(value):
            raise self.error(key, expected)
        return value


def read_json(path: pathlib.Path) -> JsonObject:
    """Reads a JSON file that holds an object.

    Raises:
      UserError: the file is missing or unreadable, or is not a JSON object.
    """
    return JsonObject(path, schema.read_json(path))
