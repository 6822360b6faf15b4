"""Batches from sources, through grain: ordered, parallel, one share per process.

The order of examples is a pure function of the seed and the position: position p of the run is
the same example with the same random numbers, whatever the number of processes, workers and
restarts. Batch s holds positions [s·B, (s+1)·B), and process k of n the k-th n-th of these rows.
A position whose example is bad or dropped is filled by the next good one in the order, so that
nothing after it shifts.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from pgjax.data.sources import Source
from pgjax.errors import DataError, UserError

# What may enter the model. Everything else of an example stays on the host.
ARRAYS = ("image", "text", "mask_ar", "mask_loss", "mask_input")
_ENDLESS = 2**40  # positions; grain wants a length
_MOST_SKIPS = 100  # in a row; more means that nothing is right

Pipeline = Callable[..., dict[str, Any]]
Batch = dict[str, Any]


@dataclasses.dataclass
class Part:
    """A source with its preprocessing, and its weight in a mixture."""

    source: Source
    pipeline: Pipeline
    weight: float = 1.0
    name: str = ""


@dataclasses.dataclass
class _Failure:
    """An error on its way out of a worker; exceptions may not survive the trip."""

    message: str


class _Reader:
    """Reads one example of a part; errors name the place."""

    def __init__(self, parts: Sequence[Part], seed: int):
        self.parts, self.seed = list(parts), seed

    def read(self, part: int, index: int, position: int) -> dict[str, Any]:
        source, pipeline = self.parts[part].source, self.parts[part].pipeline
        try:
            rng = np.random.default_rng([self.seed, position])
            return pipeline(source[index], rng=rng)
        except DataError as e:
            raise type(e)(f"{source.where(index)}: {e}") from e
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise DataError(f"{source.where(index)}: {type(e).__name__}: {e}") from e


class _TrainSlots(_Reader):
    """This process's rows of an endless run, from a given position."""

    def __init__(self, parts, seed, shuffle, skip, first_row, share):
        super().__init__(parts, seed)
        self.skip, self.first_row, self.share = skip, first_row, share
        orders = []
        for i, part in enumerate(parts):
            order = grain.MapDataset.range(len(part.source)).seed(seed + i)
            order = (order.shuffle() if shuffle else order).repeat()
            orders.append(order)
        self.order = _mix(orders, [p.weight for p in parts])

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, i: int) -> dict[str, Any] | _Failure:
        batch, start, each = self.share
        i += self.first_row
        position = i // each * batch + start + i % each
        notes: dict[str, list[str]] = {"skipped": [], "dropped": []}
        for attempt in range(_MOST_SKIPS):
            part, index = self.order(position + attempt)
            try:
                example = self.read(part, index, position + attempt)
            except DataError as e:
                dropped = getattr(e, "drop", False)
                if not dropped and not self.skip:
                    return _Failure(str(e))
                notes["dropped" if dropped else "skipped"].append(str(e))
                last = e
            else:
                return {**example, "_notes": notes, "_where": self.parts[part].source.where(index)}
        return _Failure(f"{_MOST_SKIPS} examples in a row cannot be used; the last one: {last}")


def _mix(orders: list[grain.MapDataset], weights: list[float]) -> Callable[[int], tuple[int, int]]:
    """Position -> (part, index), with parts interleaved in proportion to their weights."""
    if min(weights) <= 0:
        raise UserError(f"Mixture weights are {weights}, expected all of them above 0.")
    if len(orders) == 1:
        return _Single(orders[0])
    tagged = [order.map(_Tag(i)) for i, order in enumerate(orders)]
    return _Mixed(grain.MapDataset.mix(tagged, weights))


@dataclasses.dataclass
class _Tag:
    part: int

    def __call__(self, index: int) -> tuple[int, int]:
        return self.part, index


@dataclasses.dataclass
class _Single:
    order: grain.MapDataset

    def __call__(self, position: int) -> tuple[int, int]:
        return 0, self.order[position]


@dataclasses.dataclass
class _Mixed:
    order: grain.MapDataset

    def __call__(self, position: int) -> tuple[int, int]:
        return self.order[position]


class TrainLoader:
    """Endless training batches of this process."""

    def __init__(
        self,
        parts: Sequence[Part],
        batch_size: int,
        *,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
        workers: int = 0,
        threads: int = 4,
        prefetch: int = 4,
        shuffle: bool = True,
        on_bad_example: str = "raise",
    ):
        """Checks the arguments; reading begins with iteration.

        Args:
          parts: one source, or several mixed by weight.
          batch_size: rows over all processes.
          seed: of order and augmentation.
          process_index: which share of every batch.
          process_count: into how many shares.
          workers: processes that read ahead; 0 for threads of this one.
          threads: per process.
          prefetch: batches read ahead.
          shuffle: every epoch in another order.
          on_bad_example: `raise`, or `skip` and count.

        Raises:
          UserError: arguments that do not fit.
        """
        _check(batch_size, process_count, on_bad_example)
        self._parts, self._seed, self._shuffle = list(parts), seed, shuffle
        each = batch_size // process_count
        self._share = (batch_size, process_index * each, each)
        self._skip = on_bad_example == "skip"
        self._read = (workers, threads, prefetch)
        self._batches = 0
        self._notes = _Notes()
        self.num_examples = sum(len(p.source) for p in parts)
        self.steps_per_epoch = self.num_examples / batch_size

    def __iter__(self) -> Iterator[Batch]:
        """Yields `{name: [B_local,…]}` from the current position on.

        Raises:
          DataError: a bad example, with its place.
        """
        each = self._share[-1]
        slots = _TrainSlots(
            self._parts, self._seed, self._shuffle, self._skip, self._batches * each, self._share
        )
        for rows in _batches(slots, each, *self._read):
            batch = _stack(self._notes.take(rows))
            self._batches += 1
            yield batch

    def state(self) -> dict[str, int]:
        """The position after the last batch yielded."""
        return {"batches": self._batches}

    def restore(self, state: Mapping[str, int]) -> None:
        """Continues after the position of `state()`; to be called before iterating."""
        self._batches = int(state["batches"])

    def report(self) -> dict[str, Any]:
        """Counts of examples skipped, dropped and truncated, and the first few places."""
        return self._notes.report()


class _EvalSlots(_Reader):
    """Every example once, in order, padded to whole batches."""

    def __init__(self, part: Part, skip: bool, count: int, padded: int, share):
        super().__init__([part], seed=0)
        self.skip, self.count, self.padded, self.share = skip, count, padded, share

    def __len__(self) -> int:
        batch, _, each = self.share
        return self.padded // batch * each

    def __getitem__(self, i: int) -> dict[str, Any] | _Failure:
        batch, start, each = self.share
        position = i // each * batch + start + i % each
        notes: dict[str, list[str]] = {"skipped": [], "dropped": []}
        # A row that only pads, or whose example is bad, repeats some good example.
        for attempt in range(min(_MOST_SKIPS, self.count)):
            index = (position + attempt) % self.count
            real = attempt == 0 and position < self.count
            try:
                example = self.read(0, index, index)
            except DataError as e:
                if not self.skip:
                    return _Failure(str(e))
                if real:
                    notes["skipped"].append(str(e))
                last = e
            else:
                where = self.parts[0].source.where(index)
                return {**example, "_notes": notes, "_where": where, "_mask": real, "index": index}
        return _Failure(f"{_MOST_SKIPS} examples in a row cannot be used; the last one: {last}")


class EvalLoader:
    """One pass over a source; every process yields the same number of batches."""

    def __init__(
        self,
        part: Part,
        batch_size: int,
        *,
        process_index: int = 0,
        process_count: int = 1,
        workers: int = 0,
        threads: int = 4,
        prefetch: int = 4,
        on_bad_example: str = "raise",
        max_examples: int | None = None,
    ):
        """Checks the arguments; see `TrainLoader`.

        Raises:
          UserError: arguments that do not fit.
        """
        _check(batch_size, process_count, on_bad_example)
        count = len(part.source) if max_examples is None else min(max_examples, len(part.source))
        if count < 1:
            raise UserError(f"Evaluation set {part.name!r} has no example.")
        self._length = -(-count // batch_size)
        each = batch_size // process_count
        share = (batch_size, process_index * each, each)
        self._slots = _EvalSlots(
            part, on_bad_example == "skip", count, self._length * batch_size, share
        )
        self._each, self._read = each, (workers, threads, prefetch)
        self._notes = _Notes()

    def __len__(self) -> int:
        """Number of batches."""
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        """Yields stacked arrays, `_mask` bool [B_local], and `meta`, a list of dicts.

        Raises:
          DataError: a bad example, with its place.
        """
        for rows in _batches(self._slots, self._each, *self._read):
            rows = self._notes.take(rows)
            batch = _stack(rows)
            batch["_mask"] = np.array([row["_mask"] for row in rows])
            batch["meta"] = [
                {k: v for k, v in r.items() if k not in ARRAYS and not k.startswith("_")}
                for r in rows
            ]
            yield batch

    def report(self) -> dict[str, Any]:
        """Counts of examples skipped, dropped and truncated, and the first few places."""
        return self._notes.report()


class _Notes:
    """Counts what the rows say about themselves."""

    def __init__(self):
        self.counts = {"skipped": 0, "dropped": 0, "truncated": 0}
        self.examples: list[str] = []

    def take(self, rows: list[Any]) -> list[dict[str, Any]]:
        """Returns the rows without their notes, or raises what went wrong."""
        for row in rows:
            if isinstance(row, _Failure):
                raise DataError(row.message)
            for kind, messages in row.pop("_notes").items():
                self.counts[kind] += len(messages)
                self.examples += messages[: max(0, 5 - len(self.examples))]
            if row.pop("_truncated", False):
                self.counts["truncated"] += 1
                if len(self.examples) < 5:
                    self.examples.append(f"{row['_where']}: truncated")
        return rows

    def report(self) -> dict[str, Any]:
        return {**self.counts, "examples": list(self.examples)}


def _batches(slots, each: int, workers: int, threads: int, prefetch: int) -> Iterator[list[Any]]:
    # Whole batches are the unit of reading ahead, so that workers cannot change the order.
    data = grain.MapDataset.source(slots).batch(each, batch_fn=list)
    if workers:
        options = grain.MultiprocessingOptions(
            num_workers=workers, per_worker_buffer_size=max(1, prefetch // workers)
        )
        read = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        return iter(data.to_iter_dataset(read).mp_prefetch(options))
    read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(prefetch, threads))
    return iter(data.to_iter_dataset(read))


def _stack(rows: list[dict[str, Any]]) -> Batch:
    batch = {}
    for key in ARRAYS:
        values = [row[key] for row in rows if key in row]
        if not values:
            continue
        odd = next((r for r in rows if not isinstance(r.get(key), np.ndarray)), None)
        if odd is not None:
            raise DataError(
                f"{odd['_where']}: the pipeline leaves a {type(odd.get(key)).__name__} under "
                f"{key!r}, expected an array (decode? for_training?)."
            )
        shapes = {v.shape: row["_where"] for v, row in zip(values, rows, strict=True)}
        if len(shapes) > 1:
            (a, where_a), (b, where_b) = list(shapes.items())[:2]
            raise DataError(
                f"{key!r} has shape {a} at {where_a} but {b} at {where_b}; rows of a batch must "
                "agree (resize images, fix the number of frames)."
            )
        batch[key] = np.stack(values)
    return batch


def _check(batch_size: int, process_count: int, on_bad_example: str) -> None:
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"batch_size {batch_size} is not divisible by the {process_count} processes."
        )
    if on_bad_example not in ("raise", "skip"):
        raise UserError(f"on_bad_example {on_bad_example!r}: expected 'raise' or 'skip'.")
