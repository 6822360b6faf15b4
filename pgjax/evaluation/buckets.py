"""Batches by prompt length, so that short prompts don't pay for long ones.

A row is always decoded at the compiled length of its own prompt, in a batch of the same number of
rows: its answer does not depend on what it is batched with, nor on how many processes there are.
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

    Args:
      batches: of an `EvalLoader` with `text`, `mask_ar` and `mask_input`, [B,T] each; every
        process has as many.

    Yields:
      Batches of as many rows, text cut to [B,T'], the same T' in every process at a time. Rows
      with a false `_mask` fill up those that come last. No more than one batch of each length
      and the one just read are held.
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
    """A copy, which does not keep the whole batch in memory."""
    arrays = {k: v[r].copy() for k, v in batch.items() if k != "meta"}
    return {**arrays, "meta": batch["meta"][r]}


def _counts(queues: dict[int, collections.deque], widths: list[int]) -> np.ndarray:
    """How many rows wait, [processes, widths]."""
    own = np.array([len(queues[w]) for w in widths], np.int32)
    return own[None].copy() if jax.process_count() == 1 else _gathered(own)


def _gathered(own: np.ndarray) -> np.ndarray:
    return np.array(multihost_utils.process_allgather(own))


def _next(counts: np.ndarray, rows: int) -> int | None:
    """Which width is due: one that fills a batch everywhere, or the fullest when many wait."""
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
