"""Splits of a list of records, such as `train[:90%]`, `[10:200]` or `train[:5%]+train[95%:]`."""

import re

import numpy as np
from jaxtyping import Int64

from pgjax.errors import UserError

_NAMES = ("all", "train")  # both mean all records
_BOUND = r"-?[0-9]{1,18}(?:(?:\.[0-9]{1,18})?%)?"
_PART = re.compile(rf"(?P<name>[\w-]*)(?:\[(?P<start>{_BOUND})?:(?P<stop>{_BOUND})?\])?")


class EmptySplit(UserError):
    """A split that leaves no record."""


def parse_split(text: str, length: int) -> list[range]:
    """Returns the ranges of indices in a split; percentages are rounded to the nearest record.

    Args:
      text: parts joined by `+`; a part is a name, a slice, or both.
      length: number of records.

    Raises:
      UserError: the text is not a split, or has an unknown name or bounds beyond the records.
      EmptySplit: it leaves no record.
    """
    ranges = [_parse_part(part, text, length) for part in str(text).replace(" ", "").split("+")]
    if not any(ranges):
        raise EmptySplit(f"split {text!r} of {length} records is empty.")
    return [r for r in ranges if r]


def _parse_part(part: str, text: str, length: int) -> range:
    match = _PART.fullmatch(part)
    if not part or not match or match["name"] not in ("", *_NAMES):
        raise UserError(
            f"split {text!r}: {part!r} is not understood; expected {' or '.join(_NAMES)}, with "
            "or without a slice such as [:90%]."
        )
    start, stop = match["start"], match["stop"]
    if start and stop and start.endswith("%") != stop.endswith("%"):
        raise UserError(f"split {text!r}: {part!r} has one bound in percent, expected both.")
    bounds = _bound(start, length, 0), _bound(stop, length, length)
    if not all(-length <= b <= length for b in bounds):
        raise UserError(f"split {text!r}: {part!r} goes beyond the {length} records.")
    return range(*(b + length if b < 0 else b for b in bounds))


def _bound(text: str | None, length: int, default: int) -> int:
    if text is None:
        return default
    return round(float(text[:-1]) * length / 100) if text.endswith("%") else int(text)


def shuffled(groups: Int64[np.ndarray, " n"], seed: int) -> Int64[np.ndarray, " n"]:
    """Returns an order of records in which groups stay together and come at random.

    It depends on the arguments alone: numpy promises that the stream of `RandomState` never
    changes.

    Args:
      groups: [n] the group of each record, counted from 0.
      seed: other seeds give other orders.

    Returns:
      [n] indices of the records.
    """
    count = int(groups.max(initial=-1)) + 1
    rank = np.random.RandomState(seed).permutation(count)
    return np.argsort(rank[groups], kind="stable")


class Picked:
    """Maps positions in a split to indices of records, in the order of the ranges."""

    def __init__(self, ranges: list[range], order: Int64[np.ndarray, " n"] | None = None):
        """Takes the ranges of `parse_split`, and the order of the records that they count in."""
        self._ranges, self._order = ranges, order

    def __len__(self) -> int:
        """Returns the number of records in the split."""
        return sum(map(len, self._ranges))

    def __getitem__(self, index: int) -> int:
        """Returns the index of the record at a position."""
        for r in self._ranges:
            if index < len(r):
                return r[index] if self._order is None else int(self._order[r[index]])
            index -= len(r)
        raise IndexError(index)
