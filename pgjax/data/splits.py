"""Splits of a list of records, such as `train[:90%]`, `[10:200]` or `train[:5%]+train[95%:]`."""

import re
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Int64

from pgjax.errors import UserError, note

_BOUND = r"-?[0-9]{1,18}(?:(?:\.[0-9]{1,18})?%)?"
_PART = re.compile(rf"(?P<name>[\w-]*)(?:\[(?P<start>{_BOUND})?:(?P<stop>{_BOUND})?\])?")


class EmptySplit(UserError):
    """A split that leaves no record."""


def parse_split(text: str, length: int | Mapping[str, int]) -> list[range]:
    """Returns the ranges of indices in a split; percentages are rounded to the nearest record.

    Args:
      text: parts joined by `+`; a part is a name, a slice, or both.
      length: number of records, all of which are meant by `all` and `train`; or those of each named
        split, which follow one another and are `all` together.

    Raises:
      UserError: the text is not a split, or has an unknown name or bounds beyond the records.
      EmptySplit: it leaves no record.
    """
    known = _by_name(length)
    ranges = [_parse_part(part, text, known) for part in _parts(text)]
    if not any(ranges):
        raise EmptySplit(f"split {text!r} of {len(known['all'])} records is empty.")
    return [r for r in ranges if r]


def names_in(text: str) -> set[str]:
    """Returns the names of splits that a text has; "all" where it has a slice without a name."""
    return {part.partition("[")[0] or "all" for part in _parts(text)}


def _parts(text: str) -> list[str]:
    return str(text).replace(" ", "").split("+")


def _by_name(length: int | Mapping[str, int]) -> dict[str, range]:
    if isinstance(length, int):
        return {"all": range(length), "train": range(length)}
    known, total = {"all": range(sum(length.values()))}, 0
    for name, count in length.items():
        known[name] = range(total, total + count)
        total += count
    return known


def _parse_part(part: str, text: str, known: Mapping[str, range]) -> range:
    match = _PART.fullmatch(part)
    name = (match["name"] or "all") if match else ""
    if not part or not match or name not in known:
        raise UserError(
            f"split {text!r}: {part!r} is not understood; expected {' or '.join(known)}, with "
            "or without a slice such as [:90%]."
        )
    start, stop, records = match["start"], match["stop"], known[name]
    length = len(records)
    if start and stop and start.endswith("%") != stop.endswith("%"):
        raise UserError(f"split {text!r}: {part!r} has one bound in percent, expected both.")
    bounds = _bound(start, length, 0), _bound(stop, length, length)
    if not all(-length <= b <= length for b in bounds):
        raise UserError(f"split {text!r}: {part!r} goes beyond the {length} records.")
    first, end = (b + length if b < 0 else b for b in bounds)
    return range(records.start + first, records.start + end)


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


def pick(
    what: str,
    split: str,
    if_empty: str,
    length: int | Mapping[str, int],
    order: Callable[[], Int64[np.ndarray, " n"]] | None = None,
) -> Picked:
    """Returns the records of a split of a source's files.

    Args:
      what: the source and its files, for messages.
      split: see `parse_split`.
      if_empty: the split to take, with a note, where `split` leaves nothing; "" for an error.
      length: number of records, or of those of each named split.
      order: makes the order that records are counted in; None for their own.

    Raises:
      UserError: there is no record, or the split does not fit.
    """
    try:
        try:
            ranges = parse_split(split, length)
        except EmptySplit as e:
            if not if_empty:
                raise
            ranges = parse_split(if_empty, length)
            note(f"{what}: {str(e).removesuffix('.')}; {if_empty!r} is used.")
    except UserError as e:
        raise UserError(f"{what}: {e}") from None
    return Picked(ranges, order and order())
