"""Groups examples into batches by prompt length, so that short prompts don't wait for long ones.

A row is always decoded at the compiled length for its own prompt, in a batch of the same number of
rows. So its answer depends neither on the other rows of its batch nor on the number of processes.
"""

import collections
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from pgjax.inference.lengths import LENGTHS, compiled_length, trimmed

Batch = dict[str, Any]
Row = dict[str, Any]


def by_length(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Sorts the valid rows of batches into batches of one text length each.

    It holds at most one batch of each length in memory, and the batch that was just read.

    Args:
      batches: batches of an `EvalLoader` with `text`, `mask_ar` and `mask_input`, [B, T] each. All
        processes have the same number of batches.

    Yields:
      Batches of B rows with texts cut to [B, T'], where T' is the same in all processes. The last
      batch of each length is filled up with rows whose `_mask` is false.
    """
    queues: dict[int, collections.deque[Row]] = collections.defaultdict(collections.deque)
    rows, text_len = 0, 0
    spare: Row = {}
    widths: list[int] = []
    for batch in batches:
        if not spare:
            rows, text_len = batch["text"].shape
            spare = {**_row(batch, 0), "_mask": np.bool_(False)}
            widths = sorted({min(n, text_len) for n in (*LENGTHS, text_len)})
        for r in np.flatnonzero(batch["_mask"]).tolist():
            width = min(compiled_length(int(batch["mask_input"][r].sum())), text_len)
            queues[width].append(_row(batch, r))
        counts = _counts(queues, widths)
        while (i := _next(counts, rows)) is not None:
            yield _take(queues[widths[i]], widths[i], rows, spare)
            counts[:, i] = np.maximum(counts[:, i] - rows, 0)
    counts = _counts(queues, widths)
    while counts.any():
        i = int(counts.max(axis=0).argmax())
        yield _take(queues[widths[i]], widths[i], rows, spare)
        counts[:, i] = np.maximum(counts[:, i] - rows, 0)


def _row(batch: Batch, r: int) -> Row:
    """Copies a row, so that it does not keep its whole batch in memory."""
    arrays = {k: v[r].copy() for k, v in batch.items() if k != "meta"}
    return {**arrays, "meta": batch["meta"][r]}


def _counts(queues: dict[int, collections.deque], widths: list[int]) -> np.ndarray:
    """Returns how many rows wait in each process for each width: int32 [processes, widths]."""
    own = np.array([len(queues[w]) for w in widths], np.int32)
    return own[None].copy() if jax.process_count() == 1 else _gathered(own)


def _gathered(own: np.ndarray) -> np.ndarray:
    return np.array(multihost_utils.process_allgather(own))


def _next(counts: np.ndarray, rows: int) -> int | None:
    """Returns the width of the next batch, or None if more rows should be read first.

    It is a width that fills a batch in every process, or the one with the most rows if many wait.
    """
    if (full := counts.min(axis=0) >= rows).any():
        return int(full.argmax())
    if (counts.sum(axis=1) > counts.shape[1] * rows).any():
        return int(counts.max(axis=0).argmax())
    return None


def _take(queue: collections.deque[Row], width: int, rows: int, spare: Row) -> Batch:
    taken = [queue.popleft() if queue else spare for _ in range(rows)]
    keys = [k for k in spare if k != "meta"]
    batch = {k: np.stack([row[k] for row in taken]) for k in keys}
    return {**trimmed(batch, width), "meta": [row["meta"] for row in taken]}
