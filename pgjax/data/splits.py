"""Split expressions over a list of records: `train[:90%]`, `[10:200]`, `train[:5%]+train[95%:]`."""

import re

from pgjax.errors import UserError

_PART = re.compile(r"(?P<base>[\w-]*)(?:\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


def parse_split(
    text: str, length: int, bases: tuple[str, ...] = ("", "all", "train")
) -> list[range]:
    """Index ranges of a split expression, as TFDS reads them (percentages round to the nearest).

    Args:
      text: parts joined by `+`; a part is a name, a slice, or both.
      length: number of records.
      bases: names that stand for all records.

    Raises:
      UserError: not a split expression, an unknown name, or no record left.
    """
    ranges = []
    for part in text.replace(" ", "").split("+"):
        match = _PART.fullmatch(part)
        if not match or match["base"] not in bases:
            raise UserError(
                f"split {text!r}: {part!r} is not understood; expected a slice such as "
                f"'train[:90%]' of {[b for b in bases if b]}."
            )
        bounds = (_bound(match["start"], length, 0), _bound(match["stop"], length, length))
        ranges.append(range(*bounds))
    if not any(ranges):
        raise UserError(f"split {text!r} of {length} records is empty.")
    return [r for r in ranges if r]


def _bound(text: str | None, length: int, default: int) -> int:
    if text is None:
        return default
    value = round(length * int(text[:-1]) / 100) if text.endswith("%") else int(text)
    return min(max(value + length if value < 0 else value, 0), length)


class Picked:
    """Some records of a source, in the order of the ranges."""

    def __init__(self, ranges: list[range]):
        """Keeps the ranges."""
        self._ranges = ranges

    def __len__(self) -> int:
        """Number of records."""
        return sum(map(len, self._ranges))

    def __getitem__(self, index: int) -> int:
        """Position in the split -> index of the record."""
        for r in self._ranges:
            if index < len(r):
                return r[index]
            index -= len(r)
        raise IndexError(index)
