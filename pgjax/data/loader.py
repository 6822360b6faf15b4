"""Reads batches from data sources through grain: ordered, in parallel, one share per process.

The order of examples is a pure function of the seed and the position: position p of the run is
the same example with the same random numbers, whatever the number of processes, workers and
restarts. Batch s holds the positions [s·B, (s+1)·B), of which process k of n reads the k-th n-th.
A position whose example is bad or dropped is filled with the next good example in the order, so
that later positions do not shift.
"""

import atexit
import contextlib
import dataclasses
import functools
import itertools
import signal
import weakref
from collections.abc import Callable, Container, Generator, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from pgjax.data.example import Example
from pgjax.data.shared_batch import SharedBatch
from pgjax.data.sources import Source
from pgjax.data.workers import check_main_module, end_with_parent, worker_errors
from pgjax.errors import DataError, UserError
from pgjax.registry import import_extensions, imported_extensions

# The keys of an example that become arrays of a batch; the others stay on the host.
ARRAYS = ("image", "text", "mask_ar", "mask_loss", "mask_input")
_ENDLESS = 2**40  # batches; grain requires a length
_SMALL = 2**16  # examples; for fewer, grain's shuffle takes up to milliseconds each
_MOST_SKIPS = 100  # unusable examples in a row, after which reading fails

Pipeline = Callable[..., dict[str, Any]]
Batch = dict[str, Any]


@dataclasses.dataclass
class Part:
    """A source with its preprocessing, its weight in a mixture, and its name for messages."""

    source: Source
    pipeline: Pipeline
    weight: float = 1.0
    name: str = ""


class TrainLoader:
    """Reads training batches of this process, without end."""

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
        """Checks the arguments; nothing is read before iteration.

        Args:
          parts: one source, or several that are mixed by weight.
          batch_size: rows of a batch over all processes.
          seed: of the order and of random ops.
          process_index: which share of every batch this process reads.
          process_count: number of shares.
          workers: processes that read ahead; 0 for threads of this process.
          threads: threads that read ahead where there are no workers; each reads whole batches.
          prefetch: number of batches that are read ahead.
          shuffle: whether every epoch has another order.
          on_bad_example: `raise`, or `skip`, which counts bad examples.

        Raises:
          UserError: an argument is out of range, or a source is empty.
        """
        if seed < 0:
            raise UserError(f"seed is {seed}, expected 0 or more.")
        share = _Share.of(batch_size, process_index, process_count)
        order = _order(parts, seed, shuffle)
        skip = _skips(on_bad_example)
        self._reader = _TrainBatches(list(parts), seed, skip, share, order)
        self._options = (workers, threads, prefetch)
        self._done = 0
        self._notes = _Notes()
        self.num_examples = sum(len(p.source) for p in parts)
        self.steps_per_epoch = self.num_examples / batch_size

    def __iter__(self) -> Iterator[Batch]:
        """Yields batches `{name: array [B_local, …]}` from the current position on.

        Raises:
          DataError: a bad example; the message says its place.
        """
        return _closed_at_exit(self._iterate())

    def _iterate(self) -> Generator[Batch, None, None]:
        for batch, read in _read_ahead(self._reader, self._done, *self._options):
            self._notes.add(read.notes)
            self._done += 1
            yield batch

    def state(self) -> dict[str, int]:
        """Returns the position after the last batch yielded, in examples over all processes."""
        return {"examples": self._done * self._reader.share.batch}

    def restore(self, state: Mapping[str, int]) -> None:
        """Continues from a position; to be called before iterating.

        Args:
          state: what `state` returned.

        Raises:
          UserError: with another batch size, the position lies inside a batch.
        """
        self._done, inside = divmod(int(state["examples"]), self._reader.share.batch)
        if inside:
            raise UserError(
                f"The run stopped after {state['examples']} examples, which is no whole number of "
                f"batches of {self._reader.share.batch}; resume with the batch size it had."
            )

    def report(self) -> dict[str, Any]:
        """Returns counts of skipped, dropped and truncated examples, and the first few places."""
        return self._notes.report()


class EvalLoader:
    """Reads a source once; every process yields the same number of batches."""

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
        done: Container[int] = (),
    ):
        """Checks the arguments; nothing is read before iteration.

        Args:
          part: the source with its preprocessing.
          batch_size: as for `TrainLoader`, like the following ones.
          process_index: which share of every batch this process reads.
          process_count: number of shares.
          workers: processes that read ahead.
          threads: threads that read ahead where there are no workers.
          prefetch: number of batches that are read ahead.
          on_bad_example: `raise` or `skip`.
          max_examples: number of examples from the first; None for all.
          done: indices of examples to leave out.

        Raises:
          UserError: an argument is out of range, or the source is empty.
        """
        share = _Share.of(batch_size, process_index, process_count)
        count = len(part.source) if max_examples is None else min(max_examples, len(part.source))
        if count < 1:
            raise UserError(f"The evaluation set {part.name!r} has no example.")
        left: Sequence[int] | np.ndarray = range(count)
        if done:
            left = np.array([i for i in left if i not in done], np.int64)
        self._reader = _EvalBatches([part], 0, _skips(on_bad_example), share, left)
        self._options = (workers, threads, prefetch)
        self._notes = _Notes()

    def __len__(self) -> int:
        """Returns the number of batches."""
        return len(self._reader)

    def __iter__(self) -> Iterator[Batch]:
        """Yields batches: stacked arrays and, for each row, a dict in the list `meta`.

        `_index` int32 [B_local], and `index` in `meta`, is the example's place in the source. Where
        `_mask` bool [B_local] is false, the row repeats some good example: it pads the last batch,
        or stands for a bad or dropped example.

        Raises:
          DataError: a bad example; the message says its place.
        """
        return _closed_at_exit(self._iterate())

    def _iterate(self) -> Generator[Batch, None, None]:
        for batch, read in _read_ahead(self._reader, 0, *self._options):
            self._notes.add(read.notes)
            yield {**batch, "meta": read.meta}

    def report(self) -> dict[str, Any]:
        """Returns counts of skipped, dropped and truncated examples, and the first few places."""
        return self._notes.report()


# ---- reading whole batches, in threads or worker processes ---------------------------------------


@dataclasses.dataclass(frozen=True)
class _Share:
    """Rows [start, start + rows) of every `batch`."""

    batch: int
    start: int
    rows: int

    @classmethod
    def of(cls, batch_size: int, process_index: int, process_count: int) -> "_Share":
        if batch_size < 1 or batch_size % process_count:
            raise UserError(
                f"batch_size is {batch_size}, expected a positive multiple of the "
                f"{process_count} processes."
            )
        if not 0 <= process_index < process_count:
            raise UserError(f"process_index is {process_index}, expected 0 to {process_count - 1}.")
        rows = batch_size // process_count
        return cls(batch_size, process_index * rows, rows)

    def positions(self, i: int) -> range:
        first = i * self.batch + self.start
        return range(first, first + self.rows)


class _Notes:
    """Counts of skipped, dropped and truncated examples, and the first few places."""

    def __init__(self) -> None:
        self.counts = {"skipped": 0, "dropped": 0, "truncated": 0}
        self.examples: list[str] = []

    def add(self, notes: list[tuple[str, str]]) -> None:
        for kind, message in notes:
            self.counts[kind] += 1
            if len(self.examples) < 5:
                self.examples.append(message)

    def report(self) -> dict[str, Any]:
        return {**self.counts, "examples": list(self.examples)}


@dataclasses.dataclass
class _Read:
    """A batch with notes about its examples; no dict, in which grain would look for arrays."""

    arrays: SharedBatch
    notes: list[tuple[str, str]]
    meta: list[dict[str, Any]] | None = None


class _Failure:
    """The message of an error in a worker; an exception would carry the worker's traceback."""

    def __init__(self, message: str):
        self.message = message


Row = tuple[Example, str]  # an example and its place


@dataclasses.dataclass
class _Batches:
    """Reads and stacks this process's share of batch i at `[i]`, in any thread or process."""

    parts: list[Part]
    seed: int
    skip: bool
    share: _Share

    def __getitem__(self, i: int) -> _Read | _Failure:
        try:
            return self.batch(i)
        except DataError as e:
            return _Failure(str(e))

    def __len__(self) -> int:
        raise NotImplementedError

    def batch(self, i: int) -> _Read:
        raise NotImplementedError

    def read(
        self, part: int, index: int, position: int, notes: list[tuple[str, str]]
    ) -> Row | None:
        """Reads an example; returns None and adds a note where it is to be left out."""
        source, pipeline = self.parts[part].source, self.parts[part].pipeline
        where = source.where(index)
        try:
            example = pipeline(source[index], rng=np.random.default_rng([self.seed, position]))
        except DataError as e:
            dropped = getattr(e, "drop", False)
            if not (dropped or self.skip):
                raise DataError(f"{where}: {e}") from e
            notes.append(("dropped" if dropped else "skipped", f"{where}: {e}"))
            return None
        except (OSError, ValueError, LookupError, TypeError, RuntimeError) as e:
            message = f"{where}: {type(e).__name__}: {e}"
            if not self.skip:
                raise DataError(message) from e
            notes.append(("skipped", message))
            return None
        if example.get("_truncated"):
            notes.append(("truncated", f"{where}: truncated"))
        return example, where

    def first_good(self, places: Iterator[tuple[int, int, int]]) -> Row:
        """Returns the first usable example; the ones before it are not counted."""
        notes: list[tuple[str, str]] = []
        for place in itertools.islice(places, _MOST_SKIPS):
            if row := self.read(*place, notes):
                return row
        raise DataError(
            f"{len(notes)} examples in a row cannot be used; the last one: {notes[-1][1]}"
        )


@dataclasses.dataclass
class _TrainBatches(_Batches):
    order: Any  # grain.MapDataset: position -> (part, index)

    def __len__(self) -> int:
        return _ENDLESS

    def batch(self, i: int) -> _Read:
        notes: list[tuple[str, str]] = []
        rows = [
            self.read(*self.place(p), notes) or self.first_good(self.after(p))
            for p in self.share.positions(i)
        ]
        return _Read(SharedBatch(_stack(rows)), notes)

    def place(self, position: int) -> tuple[int, int, int]:
        """The part, the index in it, and the position itself."""
        part, index = self.order[position]
        return part, index, position

    def after(self, position: int) -> Iterator[tuple[int, int, int]]:
        """The places after a position."""
        return map(self.place, itertools.count(position + 1))


@dataclasses.dataclass
class _EvalBatches(_Batches):
    left: Sequence[int] | np.ndarray

    def __len__(self) -> int:
        return -(-len(self.left) // self.share.batch)

    def batch(self, i: int) -> _Read:
        notes: list[tuple[str, str]] = []
        slots, count = self.share.positions(i), len(self.left)
        positions = [int(self.left[k]) if k < count else k for k in slots]
        found = [
            self.read(0, p, p, notes) if k < count else None
            for k, p in zip(slots, positions, strict=True)
        ]
        mask = np.array([row is not None for row in found])
        rows = [row for row in found if row is not None]
        if not mask.all():
            others = ((0, int(p), int(p)) for p in self.left)
            filler = rows[0] if rows else self.first_good(others)
            rows = [row or filler for row in found]
        meta = [
            {k: v for k, v in example.items() if k not in ARRAYS and not k.startswith("_")}
            | {"index": p}
            for p, (example, _) in zip(positions, rows, strict=True)
        ]
        index = np.array(positions, np.int32)
        arrays = {**_stack(rows), "_mask": mask, "_index": index}
        return _Read(SharedBatch(arrays), notes, meta)


def _order(parts: Sequence[Part], seed: int, shuffle: bool) -> Any:
    """Maps positions to (part, index), without end; parts alternate in proportion to weights."""
    if not parts:
        raise UserError("The training data has no part, expected one source or a mixture.")
    if empty := [part.name or i for i, part in enumerate(parts) if not len(part.source)]:
        raise UserError(f"Training data {empty} has no example.")
    weights = [part.weight for part in parts]
    if min(weights) <= 0:
        raise UserError(f"Mixture weights are {weights}, expected all of them above 0.")
    endless = grain.MapDataset.range(_ENDLESS)
    orders = [
        endless.map(_Order(i, len(part.source), seed if shuffle else None))
        for i, part in enumerate(parts)
    ]
    return grain.MapDataset.mix(orders, weights)


@dataclasses.dataclass
class _Order:
    """Maps positions in the run of one part to (part, index): epoch after epoch, shuffled."""

    part: int
    count: int
    seed: int | None

    def __call__(self, position: int) -> tuple[int, int]:
        epoch, index = divmod(position, self.count)
        if self.seed is None:
            return self.part, index
        key = (self.seed, self.part, epoch)
        if self.count <= _SMALL:
            return self.part, int(_permutation(key, self.count)[index])
        return self.part, grain.experimental.index_shuffle(
            index, max_index=self.count - 1, seed=_hash(key), rounds=4
        )


@functools.lru_cache(maxsize=64)
def _permutation(key: tuple[int, int, int], count: int) -> np.ndarray:
    return np.random.default_rng(key).permutation(count)


@functools.lru_cache(maxsize=64)
def _hash(key: tuple[int, int, int]) -> int:
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def _read_ahead(
    reader: _Batches, first: int, workers: int, threads: int, prefetch: int
) -> Iterator[tuple[Batch, _Read]]:
    """Yields batches from `first` on, in order; closing the iterator ends threads and workers."""
    # Threads and workers read whole batches, so that they cannot change the order.
    unit: Any = reader
    data = grain.MapDataset.source(unit)[first:]
    if workers:
        check_main_module()
        if not flags.FLAGS.is_parsed():  # in a notebook or script, where grain reads its own flags
            flags.FLAGS.mark_as_parsed()
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        ahead = grain.MultiprocessingOptions(workers, max(1, prefetch // workers))
        set_up = functools.partial(_set_up_worker, imported_extensions())
        dataset = data.to_iter_dataset(options).mp_prefetch(ahead, set_up)
    else:
        options = grain.ReadOptions(threads, max(prefetch, threads))
        dataset = data.to_iter_dataset(options)
    with contextlib.closing(iter(dataset)) as reads:
        while True:
            with worker_errors() if workers else contextlib.nullcontext():
                read = next(reads, None)
            if read is None:
                return
            if isinstance(read, _Failure):
                raise DataError(read.message)
            yield read.arrays.open(), read


_open: weakref.WeakSet[Generator[Batch, None, None]] = weakref.WeakSet()


def _closed_at_exit(batches: Generator[Batch, None, None]) -> Iterator[Batch]:
    """Closes an iterator that is still open at exit, while Python still has its modules."""
    _open.add(batches)
    return batches


@atexit.register
def _close_all() -> None:
    for batches in list(_open):
        batches.close()


def _set_up_worker(extensions: Sequence[str], index: int, count: int) -> None:
    """Leaves Ctrl-C to the main process, and imports the extensions that it has imported."""
    del index, count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    import_extensions(extensions)


def _stack(rows: list[Row]) -> dict[str, np.ndarray]:
    """Stacks the arrays of examples.

    Raises:
      DataError: an array is missing, or arrays differ in shape or dtype.
    """
    batch = {}
    for key in ARRAYS:
        if not any(key in example for example, _ in rows):
            continue
        kinds: dict[str, str] = {}
        for example, where in rows:
            value = example.get(key)
            if not isinstance(value, np.ndarray):
                raise DataError(
                    f"{where}: the pipeline leaves a {type(value).__name__} under {key!r}, "
                    "expected an array; is decode or for_training missing?"
                )
            kinds.setdefault(f"{value.dtype} {value.shape}", where)
        if len(kinds) > 1:
            (a, where_a), (b, where_b) = list(kinds.items())[:2]
            raise DataError(
                f"{key!r} is {a} at {where_a} but {b} at {where_b}; rows of a batch must agree "
                "in shape and dtype; resize images and fix the number of frames."
            )
        batch[key] = np.stack([example[key] for example, _ in rows])
    return batch


def _skips(on_bad_example: str) -> bool:
    if on_bad_example not in ("raise", "skip"):
        raise UserError(f"on_bad_example is {on_bad_example!r}, expected 'raise' or 'skip'.")
    return on_bad_example == "skip"
