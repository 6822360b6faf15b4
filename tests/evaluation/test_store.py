"""Predictions on disk, and what is found there after any interruption."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import sharding
from pgjax.errors import UserError
from pgjax.evaluation.fingerprint import fingerprint
from pgjax.evaluation.store import Records, Store

WHAT = {"pp": "decode", "parameters": "abc"}


def record(i):
    return {"index": i, "prediction": f"é {i}", "scores": {"acc": np.float32(i % 2)}}


def fill(folder, indices, **kwargs):
    store = Store(folder, "val", {**WHAT, **kwargs})
    for i in indices:
        store.add(record(i))
    store.flush()
    return store


def test_in_order_whatever_the_order_of_arrival(tmp_path):
    records = fill(tmp_path, [3, 0, 2, 1]).finish()
    assert [r["index"] for r in records] == [0, 1, 2, 3] and len(records) == 4
    assert records[1] == {"index": 1, "prediction": "é 1", "scores": {"acc": 1.0}}
    assert records[-1]["index"] == 3 and [r["index"] for r in records[1:3]] == [1, 2]
    with pytest.raises(IndexError):
        records[4]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["val.json", "val.jsonl"]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_line_that_was_cut_is_dropped_and_done_again(tmp_path, cut):
    whole = fill(tmp_path / "whole", range(3)).finish()
    fill(tmp_path / "cut", range(3))
    part = tmp_path / "cut" / "val.parts" / "0.jsonl"
    part.write_bytes(part.read_bytes()[:-cut])
    store = Store(tmp_path / "cut", "val", WHAT)
    assert store.done == {0, 1}
    store.add(record(2))
    assert list(store.finish()) == list(whole)


def test_parts_of_more_processes_than_now(tmp_path):
    fill(tmp_path, [0, 5])
    part = tmp_path / "val.parts" / "0.jsonl"
    part.rename(part.with_name("3.jsonl"))
    with part.with_name("3.jsonl").open("a") as f:
        f.write('{"index": 6, "predi')  # nobody goes on with this file
    store = fill(tmp_path, [1, 2])
    assert store.done == {0, 5}
    assert [r["index"] for r in store.finish()] == [0, 1, 2, 5]


def test_killed_while_or_after_the_parts_were_merged(tmp_path):
    fill(tmp_path, range(4)).finish()
    (tmp_path / "val.jsonl.part").write_text('{"ind')
    store = Store(tmp_path, "val", WHAT)  # all is done
    assert store.done == {0, 1, 2, 3}
    store.add(record(2))  # parts that were merged already, but not removed
    assert [r["index"] for r in store.finish()] == [0, 1, 2, 3]
    assert [r["index"] for r in Store(tmp_path, "val", WHAT).finish()] == [0, 1, 2, 3]


def test_predictions_of_something_else_are_never_continued(tmp_path):
    fill(tmp_path, range(4))
    with pytest.raises(UserError, match='parameters was "abc", is "xyz"; choose another folder'):
        fill(tmp_path, (), parameters="xyz")
    assert Store(tmp_path, "val", {**WHAT, "parameters": "xyz"}, restart=True).done == set()
    (tmp_path / "val.json").unlink()
    fill(tmp_path, [0], parameters="xyz")  # nothing was stored
    (tmp_path / "val.json").unlink()
    with pytest.raises(UserError, match=r"no val\.json that says what was evaluated"):
        fill(tmp_path, [0], parameters="xyz")


def test_a_damaged_line_is_named(tmp_path):
    fill(tmp_path, range(2))
    part = tmp_path / "val.parts" / "0.jsonl"
    part.write_text(part.read_text() + "garbage\n" + json.dumps(record(7), default=float) + "\n")
    with pytest.raises(UserError, match=r"0\.jsonl:3 is no stored prediction: b'garbage"):
        Store(tmp_path, "val", WHAT)


def test_records_are_not_kept_in_memory(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps({"index": i}) + "\n" for i in range(1000)))
    records = Records(path)
    assert [r["index"] for r in records] == list(range(1000))
    assert records._starts.itemsize * len(records._starts) == 8 * 1001


def test_fingerprint_sees_every_bit():
    mesh = sharding.make_mesh()
    rng = np.random.default_rng(0)
    params = {"a": rng.normal(size=(3, 4)), "b": rng.normal(size=5), "c": np.float64(1.0)}
    params = {k: jnp.asarray(v, jnp.float32) for k, v in params.items()}
    params["d"] = jnp.asarray(rng.integers(-9, 9, (4, 2)), jnp.int8)
    params["e"] = params["a"].astype(jnp.bfloat16)
    want = fingerprint(params, mesh)
    assert want == fingerprint(dict(reversed(params.items())), mesh) and len(want) == 16
    swapped = params["a"][jnp.array([1, 0, 2])]
    others = [{**params, k: jnp.nextafter(v, v + 1)} for k, v in params.items() if k in "abc"]
    others += [{**params, "a": swapped}, {**params, "a": params["a"].T}]
    others += [{**params, "d": params["d"] + 1}, {k: v for k, v in params.items() if k != "b"}]
    others += [{**params, "e": params["a"].astype(jnp.float16)}]
    found = {fingerprint(other, mesh) for other in [params, *others]}
    assert len(found) == len(others) + 1
