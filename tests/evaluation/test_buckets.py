"""Batches by length against what they promise: nothing lost, one length a batch, little held."""

import threading

import numpy as np
import pytest

from pgjax.evaluation import buckets
from pgjax.evaluation.buckets import by_length

WIDTH = {n: 16 if n <= 16 else 32 if n <= 32 else 48 for n in range(1, 49)}


def batches(lengths, rows, text_len=48, bad=()):
    """As an `EvalLoader` yields them; the text of example i is i everywhere."""
    for start in range(0, len(lengths), rows):
        index = np.arange(start, start + rows, dtype=np.int32)
        some = [lengths[i] if i < len(lengths) else 1 for i in index]
        yield {
            "image": index[:, None].astype(np.float32),
            "text": np.repeat(index[:, None], text_len, axis=1),
            "mask_ar": np.zeros((rows, text_len), np.int32),
            "mask_input": np.arange(text_len) < np.array(some)[:, None],
            "_mask": np.array([i < len(lengths) and i not in bad for i in index]),
            "_index": index,
            "meta": [{"index": int(i)} for i in index],
        }


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("count", [1, 7, 200])
def test_every_valid_row_once_at_its_own_length(rows, count):
    rng = np.random.default_rng(count)
    lengths = rng.integers(1, 49, count).tolist()
    bad = {i for i in range(count) if i % 5 == 3}
    seen, read, held = [], 0, []

    def counted():
        nonlocal read
        for batch in batches(lengths, rows, bad=bad):
            read += int(batch["_mask"].sum())
            yield batch

    for batch in by_length(counted()):
        width = batch["text"].shape[1]
        assert batch["text"].shape == batch["mask_input"].shape == batch["mask_ar"].shape
        assert batch["image"].shape == (rows, 1) and len(batch["meta"]) == rows
        for r in range(rows):
            i = batch["meta"][r]["index"]
            assert batch["_index"][r] == i and (batch["text"][r] == i).all()
            assert batch["image"][r] == i
            if batch["_mask"][r]:
                assert WIDTH[lengths[i]] == width
                assert batch["mask_input"][r].sum() == lengths[i]
                seen.append(i)
        held.append(read - len(seen))
    assert sorted(seen) == sorted(set(range(count)) - bad)
    assert max(held, default=0) <= 4 * rows
    assert len(held) <= -(-len(seen) // rows) + 3  # at most a part of a batch per length


def test_all_processes_have_batches_of_one_length_at_a_time(monkeypatch):
    """Two processes in step, as threads; one has short prompts where the other has long ones."""
    lengths = [[2] * 20 + [40] * 5 + [20], [40] * 20 + [2] * 3 + [40] * 3]
    barrier, slots, local = threading.Barrier(2, timeout=20), [None, None], threading.local()

    def gathered(own):
        slots[local.process] = own
        barrier.wait()
        out = np.stack(slots)
        barrier.wait()
        return out

    monkeypatch.setattr(buckets.jax, "process_count", lambda: 2)
    monkeypatch.setattr(buckets, "_gathered", gathered)
    found = [[], []]

    def process(k):
        local.process = k
        for batch in by_length(batches(lengths[k], 4)):
            found[k].append((batch["text"].shape[1], batch["_index"][batch["_mask"]].tolist()))

    threads = [threading.Thread(target=process, args=[k]) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [width for width, _ in found[0]] == [width for width, _ in found[1]]
    for k in range(2):
        assert sorted(i for _, rows in found[k] for i in rows) == list(range(26))
        assert all(WIDTH[lengths[k][i]] == width for width, rows in found[k] for i in rows)
