import numpy as np
import pytest

from pgjax.data.pipeline import Pipeline
from pgjax.errors import DataError
from pgjax.text.compose import DropExample


def run(spec, **example):
    return Pipeline.parse(spec)(example)


def test_keys():
    assert run("keep('a', 'c')", a=1, b=2, c=3, _truncated=True) == {
        "a": 1,
        "c": 3,
        "_truncated": True,
    }
    assert run("drop('a', 'c')", a=1, b=2, c=3) == {"b": 2}
    assert run("copy('a', 'b')", a=1) == {"a": 1, "b": 1}
    assert run("rename('a', 'b')", a=1, c=2) == {"b": 1, "c": 2}
    assert run("setdefault('a', 'x')|setdefault('b', [1])", a=1) == {"a": 1, "b": [1]}


@pytest.mark.parametrize(
    "spec", ["keep('z')", "drop('z')", "copy('z', 'b')", "rename('z', 'b')", "fit(3, 'z')"]
)
def test_missing_key(spec):
    with pytest.raises(DataError, match=r"the example has no key 'z', it has \['a'\]"):
        run(spec, a=1)


def test_fit():
    assert run("fit(4)", text=np.array([1, 2]))["text"].tolist() == [1, 2, 0, 0]
    assert run("fit(3, 'a', -1)", a=[[1, 2]])["a"].tolist() == [[1, 2], [-1, -1], [-1, -1]]
    cut = run("fit(2, on_truncate='truncate')", text=[1, 2, 3])
    assert cut["text"].tolist() == [1, 2]
    assert cut["_truncated"] is True
    assert "_truncated" not in run("fit(3, on_truncate='truncate')", text=[1, 2, 3])
    with pytest.raises(DataError, match="'text' has 3 entries, but only 2 fit"):
        run("fit(2)", text=[1, 2, 3])
    with pytest.raises(DropExample):
        run("fit(2, on_truncate='drop')", text=[1, 2, 3])
