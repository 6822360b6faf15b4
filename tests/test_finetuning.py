"""`pgjax.finetune` with the name of a config, with data in memory, and what it returns."""

import numpy as np
import pytest

import pgjax
from pgjax.data.memory_source import MemorySource, Table, hold
from pgjax.data.scenes import SceneSource
from pgjax.errors import DataError, UserError


def rows(count):
    source = SceneSource("finetune", tasks=("caption",), max_shapes=1)
    keys = ("image", "prefix", "suffix")
    return [{key: source[i][key] for key in keys} for i in range(count)]


def test_rows_in_many_forms(tmp_path):
    data = rows(3)
    want = hold(data)
    assert hold(list(data)) == want and hold(data[:2]) != want
    assert hold(iter(data)) == want
    source = MemorySource(want, split="train[1:]")
    assert len(source) == 2 and source.where(0) == "data[1]"
    np.testing.assert_array_equal(source[0]["image"], data[1]["image"])
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(data, index=[7, 8, 9])
    assert hold(frame) == want
    with pytest.raises(UserError, match="are not in memory"):
        MemorySource("of before")
    bad = MemorySource(hold([data[0], {"prefix": "caption"}]))
    with pytest.raises(DataError, match="has no 'image'"):
        bad[1]
    assert len(Table([data[0]])) == 1


def test_finetune_by_name_with_rows(tmp_path):
    seen = []
    tuned = pgjax.finetune(
        "forkme:variant=tiny,steps=2",
        tmp_path / "run",
        data=rows(4),
        on_metrics=lambda step, values: seen.append((step, dict(values))),
    )
    assert set(tuned) == {"val", "answers"} and tuned.scores["val"]["examples"] == 4
    assert tuned["val"]["loss"] > 0 and "scores=" in repr(tuned)
    assert {step for step, _ in seen} == {1, 2} and any("loss" in values for _, values in seen)
    assert isinstance(tuned.model.generate(rows(1)[0]["image"], "caption"), str)
