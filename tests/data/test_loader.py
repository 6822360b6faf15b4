import multiprocessing
import subprocess
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest
from conftest import ROOT

from pgjax.data.loader import EvalLoader, Part, TrainLoader, _Order
from pgjax.data.pipeline import Pipeline
from pgjax.errors import DataError, UserError
from pgjax.text.compose import DropExample

# Importable by name, for worker processes.


class Numbers:
    """Examples that know their number; some are bad."""

    def __init__(self, count, bad=(), name="n", error=DataError):
        self.count, self.bad, self.name, self.error = count, bad, name, error

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index in self.bad:
            raise self.error(f"no good: {index}")
        return {"text": np.array([index], np.int32), "id": f"{self.name}{index}", "n": index}

    def where(self, index):
        return f"{self.name}:{index}"


def same(example, rng):
    return example


def noise(example, rng):
    return {**example, "image": rng.random((2, 3), np.float32)}


def second(example, rng):
    return {**example, "text": example["text"] + 1000}


def odd_are_dropped(example, rng):
    if example["n"] % 2:
        raise DropExample("too long")
    return example


def truncates(example, rng):
    return {**example, "_truncated": example["n"] < 3}


def ragged(example, rng):
    return {**example, "image": np.zeros((2 + example["n"] // 3, 2, 3), np.uint8)}


def mistaken(example, rng):
    raise UserError("op 1 (nonsense) is at fault")


def train(source, batch_size, pipeline=same, **kwargs):
    return TrainLoader([Part(source, pipeline)], batch_size, **{"seed": 0, **kwargs})


def take(loader, count):
    batches = iter(loader)
    return [next(batches) for _ in range(count)]


def numbers(batches):
    return np.concatenate([b["text"][:, 0] for b in batches]).tolist()


def assert_equal(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys()
        for key in x:
            np.testing.assert_array_equal(x[key], y[key])


# ---- order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [2, 4])
def test_the_order_does_not_depend_on_the_number_of_processes(processes):
    whole = take(train(Numbers(23), 8, noise), 9)
    shares = [
        take(train(Numbers(23), 8, noise, process_index=k, process_count=processes), 9)
        for k in range(processes)
    ]
    for i, batch in enumerate(whole):
        assert all(len(share[i]["text"]) == 8 // processes for share in shares)
        joined = {key: np.concatenate([s[i][key] for s in shares]) for key in batch}
        assert_equal([batch], [joined])


def test_every_epoch_is_another_permutation():
    order = numbers(take(train(Numbers(20), 5), 12))
    epochs = [tuple(order[i : i + 20]) for i in range(0, 60, 20)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({*epochs, tuple(range(20))}) == 4


def test_many_examples_are_shuffled_without_a_list_of_them():
    count = 2**16 + 9
    order = _Order(0, count, seed=0)
    epochs = [[order(p)[1] for p in range(e * count, (e + 1) * count)] for e in range(2)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    apart = np.abs(np.diff(epochs[0])).mean() / count
    assert 0.3 < apart < 0.36  # a third, for independent neighbours


@pytest.mark.parametrize("count", [2, 12, 1000, 2**16, 2**16 + 1, 10**8])
def test_the_order_is_quick_to_find(count):
    order = _Order(0, count, seed=0)
    order(count)
    start = time.process_time()
    for p in range(count, count + 200):
        order(p)
    assert time.process_time() - start < 0.1  # 2 µs each; grain's own takes 12 ms for 2 examples


def test_batches_run_across_epochs():
    order = numbers(take(train(Numbers(3), 4), 6))
    assert all(sorted(order[i : i + 3]) == [0, 1, 2] for i in range(0, 24, 3))
    assert numbers(take(train(Numbers(1), 4), 1)) == [0] * 4


def test_in_order_without_shuffle():
    assert numbers(take(train(Numbers(5), 4, shuffle=False), 3)) == [*range(5), *range(5), 0, 1]


def test_the_seed_decides():
    orders = [numbers(take(train(Numbers(50), 10, seed=s), 15)) for s in (0, 0, 1, 2, 2**40)]
    assert orders[0] == orders[1]
    epochs = [tuple(o[i : i + 50]) for o in orders[1:] for i in (0, 50, 100)]
    assert len(set(epochs)) == len(epochs)  # also one seed's later epochs are not another's


def test_random_numbers_are_those_of_the_position():
    batches = take(train(Numbers(5), 4, noise, seed=3), 4)
    for position in range(16):
        expected = np.random.default_rng([3, position]).random((2, 3), np.float32)
        row = batches[position // 4]["image"][position % 4]
        np.testing.assert_array_equal(row, expected)


def test_state_and_restore():
    whole = take(train(Numbers(11), 4, noise), 8)
    first = train(Numbers(11), 4, noise)
    assert first.state() == {"examples": 0}
    for done in range(8):
        again = train(Numbers(11), 4, noise, threads=done % 3)
        again.restore(first.state())
        assert_equal(take(again, 8 - done), whole[done:])
        assert again.state() == {"examples": 32}
        assert_equal(take(first, 1), whole[done : done + 1])  # a new iterator goes on, too


def test_restore_with_another_batch_size():
    """The order does not depend on it; a position inside a batch is refused."""
    order = numbers(take(train(Numbers(11), 4, same), 6))
    again = train(Numbers(11), 6, same)
    again.restore({"examples": 12})
    assert numbers(take(again, 2)) == order[12:24]
    with pytest.raises(UserError, match="after 16 examples.*batches of 6"):
        again.restore({"examples": 16})


def test_sizes():
    loader = TrainLoader([Part(Numbers(6), same), Part(Numbers(4), same)], 4, seed=0)
    assert (loader.num_examples, loader.steps_per_epoch) == (10, 2.5)


# ---- mixtures ------------------------------------------------------------------------------------


def test_mixture():
    parts = [
        Part(Numbers(10), same, weight=0.75),
        Part(Numbers(1000, name="m"), second, weight=0.25),
    ]
    order = numbers(take(TrainLoader(parts, 8, seed=0), 20))
    assert order == numbers(take(TrainLoader(parts, 8, seed=0), 20))
    small = [n for n in order if n < 1000]
    for start in range(0, 160, 16):
        assert sum(n < 1000 for n in order[start : start + 16]) == 12
    assert all(sorted(small[i : i + 10]) == list(range(10)) for i in range(0, 120, 10))
    large = [n for n in order if n >= 1000]
    assert len(set(large)) == len(large) == 40

    resumed = TrainLoader(parts, 8, seed=0)
    resumed.restore({"examples": 56})
    assert numbers(take(resumed, 13)) == order[56:]


def test_equal_parts_of_a_mixture_have_orders_of_their_own():
    parts = [Part(Numbers(100), same), Part(Numbers(100), second)]
    order = numbers(take(TrainLoader(parts, 10, seed=0), 40))
    a, b = [n for n in order if n < 1000], [n - 1000 for n in order if n >= 1000]
    assert len({tuple(x[i : i + 100]) for x in (a, b) for i in (0, 100)}) == 4


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 5, "process_count": 2}, "batch_size is 5, .* multiple of the 2 processes"),
        ({"batch_size": 0}, "batch_size is 0, expected a positive"),
        ({"on_bad_example": "ignore"}, "on_bad_example is 'ignore', expected 'raise' or 'skip'"),
        ({"seed": -1}, "seed is -1, expected 0 or more"),
        ({"parts": [Part(Numbers(3), same, weight=0)]}, r"Mixture weights are \[0\], expected all"),
    ],
)
def test_arguments(kwargs, message):
    defaults = {"parts": [Part(Numbers(3), same)], "batch_size": 2, "seed": 0}
    with pytest.raises(UserError, match=message):
        TrainLoader(**{**defaults, **kwargs})


# ---- bad examples --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError, "n:4: no good: 4"),
        (OSError, "n:4: OSError: no good: 4"),
        (IndexError, "n:4: IndexError: no good: 4"),
    ],
)
def test_bad_example_raises(error, message):
    with pytest.raises(DataError, match=f"^{message}$"):
        take(train(Numbers(10, bad={4}, error=error), 5), 2)
    assert take(train(Numbers(10, bad={4}, error=error), 5, on_bad_example="skip"), 2)


def test_a_pipeline_at_fault_is_no_bad_example():
    with pytest.raises(UserError, match="nonsense"):
        take(train(Numbers(10), 5, mistaken, on_bad_example="skip"), 1)


def test_bad_examples_are_skipped_and_the_order_after_is_the_same():
    good = take(train(Numbers(10), 5, noise), 6)
    loader = train(Numbers(10, bad={2, 7}), 5, noise, on_bad_example="skip")
    skipped = take(loader, 6)
    order, filled = numbers(good), numbers(skipped)
    for position, (a, b) in enumerate(zip(order, filled, strict=True)):
        following = (n for n in order[position:] + [-1] if n not in (2, 7))
        assert b == a if a not in (2, 7) else b in (next(following), *range(10))
    rows = np.concatenate([b["image"] for b in good]), np.concatenate([b["image"] for b in skipped])
    kept = np.array([n not in (2, 7) for n in order])
    np.testing.assert_array_equal(rows[0][kept], rows[1][kept])
    report = loader.report()
    assert report["skipped"] == 6 and report["dropped"] == report["truncated"] == 0
    assert report["examples"][0] in ("n:2: no good: 2", "n:7: no good: 7")
    assert len(report["examples"]) == 5


def test_a_skipped_position_is_filled_by_the_next_good_one():
    loader = train(Numbers(6, bad={1, 2}), 6, shuffle=False, on_bad_example="skip")
    assert numbers(take(loader, 1)) == [0, 3, 3, 3, 4, 5]
    assert loader.report()["skipped"] == 2


def test_too_many_bad_examples():
    source = Numbers(500, bad=range(3, 500))
    loader = train(source, 1, shuffle=False, on_bad_example="skip")
    batches = iter(loader)
    assert numbers([next(batches) for _ in range(3)]) == [0, 1, 2]
    with pytest.raises(DataError, match="100 examples in a row cannot be used; .* n:103: no good"):
        next(batches)


def test_dropped_examples():
    loader = train(Numbers(10), 5, odd_are_dropped)
    assert all(n % 2 == 0 for n in numbers(take(loader, 4)))
    report = loader.report()
    assert (report["dropped"], report["skipped"]) == (10, 0)
    assert report["examples"][0].endswith("too long")


def test_truncated_examples_are_counted():
    loader = train(Numbers(10), 5, truncates, shuffle=False)
    take(loader, 2)
    assert loader.report() == {
        "skipped": 0,
        "dropped": 0,
        "truncated": 3,
        "examples": ["n:0: truncated", "n:1: truncated", "n:2: truncated"],
    }


def test_only_yielded_batches_are_counted():
    loader = train(Numbers(10, bad={5}), 5, shuffle=False, on_bad_example="skip")
    batches = iter(loader)
    next(batches)
    time.sleep(0.2)  # the next ones are read by now
    assert loader.report()["skipped"] == 0
    next(batches)
    assert loader.report()["skipped"] == 1


def test_rows_must_agree():
    with pytest.raises(
        DataError,
        match=r"'image' is uint8 \(2, 2, 3\) at n:0 but uint8 \(3, 2, 3\) at n:3; .*resize",
    ):
        take(train(Numbers(4), 4, ragged, shuffle=False), 1)
    pipeline = Pipeline.parse("copy('id', 'image')")
    with pytest.raises(DataError, match="n:0: the pipeline leaves a str under 'image', expected"):
        take(train(Numbers(4), 4, pipeline, shuffle=False), 1)


# ---- evaluation ----------------------------------------------------------------------------------


def evaluate(source, batch_size, pipeline=same, processes=1, **kwargs):
    """The batches of every process, their loaders."""
    loaders = [
        EvalLoader(
            Part(source, pipeline, name="val"),
            batch_size,
            process_index=k,
            process_count=processes,
            **kwargs,
        )
        for k in range(processes)
    ]
    return [list(loader) for loader in loaders], loaders


def rows(shares):
    """(number, mask, meta) in order."""
    out = []
    for batches in zip(*shares, strict=True):
        for b in batches:
            out += zip(b["text"][:, 0].tolist(), b["_mask"].tolist(), b["meta"], strict=True)
    return out


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("count", [1, 3, 4, 8, 9, 13])
def test_every_example_once_in_order(processes, count):
    shares, loaders = evaluate(Numbers(count), 4, processes=processes)
    assert {len(s) for s in shares} == {len(x) for x in loaders} == {-(-count // 4)}
    assert all(b["text"].shape == (4 // processes, 1) for s in shares for b in s)
    assert [n for n, valid, _ in rows(shares) if valid] == list(range(count))
    assert [valid for _, valid, _ in rows(shares)] == [i < count for i in range(-(-count // 4) * 4)]
    metas = [meta for _, valid, meta in rows(shares) if valid]
    assert metas == [{"id": f"n{i}", "n": i, "index": i} for i in range(count)]


def test_iterating_again():
    loader = EvalLoader(Part(Numbers(7), noise), 4)
    assert_equal(
        [{k: b[k] for k in ("text", "image", "_mask")} for b in loader],
        [{k: b[k] for k in ("text", "image", "_mask")} for b in loader],
    )


def test_max_examples():
    shares, _ = evaluate(Numbers(100), 4, max_examples=6)
    assert [n for n, valid, _ in rows(shares) if valid] == list(range(6))
    shares, _ = evaluate(Numbers(5), 4, max_examples=100)
    assert [n for n, valid, _ in rows(shares) if valid] == list(range(5))
    with pytest.raises(UserError, match="evaluation set 'val' has no example"):
        evaluate(Numbers(5), 4, max_examples=0)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_is_done_is_left_out(processes):
    shares, loaders = evaluate(Numbers(9), 4, processes=processes, done={0, 1, 2, 5, 8, 77})
    assert {len(x) for x in loaders} == {1}
    assert [n for n, valid, _ in rows(shares) if valid] == [3, 4, 6, 7]
    assert [m["index"] for _, valid, m in rows(shares) if valid] == [3, 4, 6, 7]
    index = np.concatenate([b["_index"] for s in shares for b in s])
    assert index.tolist() == [3, 4, 6, 7] and index.dtype == np.int32
    shares, _ = evaluate(Numbers(3), 4, processes=processes, done=set(range(3)))
    assert shares == [[]] * processes


def test_noise_does_not_depend_on_what_is_done():
    (whole,), _ = evaluate(Numbers(6), 3, noise)
    (rest,), _ = evaluate(Numbers(6), 3, noise, done={0, 1, 2})
    np.testing.assert_array_equal(rest[0]["image"], whole[1]["image"])


def test_meta_holds_neither_model_inputs_nor_private_keys():
    shares, _ = evaluate(Numbers(2), 2, noise_and_more)
    (batch,) = shares[0]
    assert batch.keys() == {"image", "text", "_mask", "_index", "meta"}
    assert [meta.keys() for meta in batch["meta"]] == [{"id", "n", "index", "answers"}] * 2


def noise_and_more(example, rng):
    return {**noise(example, rng), "_secret": 1, "answers": ["a"]}


@pytest.mark.parametrize("processes", [1, 2])
def test_bad_examples_in_evaluation(processes):
    source = Numbers(9, bad={0, 4, 5, 8})
    with pytest.raises(DataError, match=r"^n:\d: no good"):
        evaluate(source, 4, processes=processes)
    shares, loaders = evaluate(source, 4, processes=processes, on_bad_example="skip")
    out = rows(shares)
    assert [n for n, valid, _ in out if valid] == [1, 2, 3, 6, 7]
    assert [m["index"] for _, valid, m in out if valid] == [1, 2, 3, 6, 7]
    assert len(out) == 12
    assert sum(loader.report()["skipped"] for loader in loaders) == 4


def test_dropped_examples_in_evaluation():
    shares, (loader,) = evaluate(Numbers(5), 2, odd_are_dropped)
    assert [n for n, valid, _ in rows(shares) if valid] == [0, 2, 4]
    assert loader.report()["dropped"] == 2


def test_all_bad_in_evaluation():
    with pytest.raises(DataError, match="3 examples in a row cannot be used; the last one: n:2"):
        evaluate(Numbers(3, bad=range(3)), 2, on_bad_example="skip")


def test_padding_reads_nothing_again():
    class Counting(Numbers):
        read = Counter()

        def __getitem__(self, index):
            self.read[index] += 1
            return super().__getitem__(index)

    shares, _ = evaluate(Counting(5), 4)
    assert len(rows(shares)) == 8
    assert Counting.read == {i: 1 for i in range(5)}


# ---- threads and worker processes ----------------------------------------------------------------


def readers():
    return [t for t in threading.enumerate() if t.name.startswith("grain-prefetch")]


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


def test_threads_end_with_the_iteration():
    wait_until(lambda: not readers())
    batches = iter(train(Numbers(10), 5))
    next(batches)
    assert readers()
    batches.close()
    wait_until(lambda: not readers())
    with pytest.raises(DataError):
        take(train(Numbers(10, bad={4}), 5), 2)
    wait_until(lambda: not readers())


def test_worker_processes_give_the_same_batches():
    expected = take(train(Numbers(11, bad={4}), 4, noise, on_bad_example="skip"), 7)
    loader = train(Numbers(11, bad={4}), 4, noise, on_bad_example="skip", workers=2)
    loader.restore({"examples": 4})
    found = take(loader, 6)
    assert_equal(found, expected[1:])
    assert type(found[0]["text"]) is np.ndarray  # not a view of shared memory
    assert not multiprocessing.active_children()
    reference = train(Numbers(11, bad={4}), 4, noise, on_bad_example="skip")
    reference.restore({"examples": 4})
    take(reference, 6)
    assert loader.report() == reference.report()
    assert loader.state() == {"examples": 28}


def test_worker_processes_in_evaluation_and_their_errors():
    (expected,), _ = evaluate(Numbers(5), 2, noise_and_more)
    loader = EvalLoader(Part(Numbers(5), noise_and_more), 2, workers=1)
    found = list(loader)
    assert [b.pop("meta") for b in found] == [b.pop("meta") for b in expected]
    assert_equal(found, expected)
    assert not multiprocessing.active_children()
    with pytest.raises(DataError, match="^n:4: no good: 4$"):
        take(train(Numbers(10, bad={4}), 5, workers=1), 2)
    assert not multiprocessing.active_children()


SCRIPT = """
import sys
import test_loader as t

if __name__ == "__main__":
    from absl import flags
    assert not flags.FLAGS.is_parsed()
    workers = 1 if sys.argv[1] == "raise" else 2
    batches = iter(t.train(t.Numbers(10), 5, t.noise, workers=workers))
    print(next(batches)["text"].shape)
    if sys.argv[1] == "raise":
        raise RuntimeError("of the training loop")
    # Else the iterator is left behind, in the middle.
"""


@pytest.mark.parametrize("ending", ["leave", "raise"])
def test_worker_processes_end_with_the_program(ending, tmp_path):
    (tmp_path / "main.py").write_text(SCRIPT)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "main.py", ending],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests/data'}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "(5, 1)\n", done.stderr
    assert time.monotonic() - started < 60
    if ending == "raise":
        assert done.returncode == 1
        assert done.stderr.strip().endswith("RuntimeError: of the training loop"), done.stderr
    else:
        assert done.returncode == 0 and not done.stderr, done.stderr
