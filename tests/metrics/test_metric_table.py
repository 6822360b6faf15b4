import pickle

import pytest

from pgjax.errors import DataError, UserError
from pgjax.metrics import get_metric
from pgjax.metrics.aggregate import Mean
from pgjax.registry import METRICS


def test_get_metric_binds_options_and_pickles():
    metric = pickle.loads(pickle.dumps(get_metric("exact_match", lower=True)))
    assert metric("A", {"suffix": "a"}) == {"acc": 1.0}
    for name in METRICS:
        assert callable(get_metric(name))


def test_typos_list_the_choices():
    with pytest.raises(UserError, match="'exact' is not a known metric; did .*'exact_match'"):
        get_metric("exact")
    with pytest.raises(UserError, match=r"no option 'lowercase'.*lower, strip"):
        get_metric("exact_match", lowercase=True)
    with pytest.raises(UserError, match="expected none"):
        get_metric("by_task", meta={})


def test_by_task():
    metric = get_metric("by_task")
    box = {"task": "detect", "boxes": [[0.25, 0.25, 0.75, 0.75]]}
    mean = Mean()
    for prediction, meta in [
        ("2", {"task": "count", "suffix": "2"}),
        ("3", {"task": "count", "suffix": "2"}),
        ("blue", {"task": "color", "answers": ["blue"]}),
        ("<loc0256><loc0256><loc0768><loc0640> square", box),
        ("square", box),
    ]:
        mean.add(metric(prediction, meta))
    assert mean.result() == {
        "acc": 3 / 5,
        "acc/color": 1.0,
        "acc/count": 0.5,
        "acc/detect": 0.5,
        "iou/detect": 0.75 / 2,
    }
    assert mean.counts()["acc"] == 5
    assert metric("x", {"task": "count", "answers": []}) == {}
    with pytest.raises(DataError, match="'task'"):
        metric("x", {"suffix": "x"})


def test_mean_is_over_the_examples_that_have_the_score():
    mean = Mean()
    for i in range(10):
        mean.add({"a": float(i)} | ({"b": i / 4} if i % 3 else {}))
    assert mean.result() == {"a": 4.5, "b": sum((1, 2, 4, 5, 7, 8)) / 4 / 6}
    assert mean.counts() == {"a": 10, "b": 6}
    assert Mean().result() == {}
