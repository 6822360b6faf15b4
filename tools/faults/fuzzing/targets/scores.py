"""Metrics, given what a model or a file of data may hold."""

import math
import pathlib
from typing import Any

from hypothesis import strategies as st

from pgjax.metrics import get_metric
from pgjax.registry import METRICS
from tools.faults.fuzzing.children import Target, Wrong
from tools.faults.fuzzing.damage import ODD_TEXT, ODD_VALUES, copied, damaged_values, values_of

_META = {
    "answers": ["<table><tr><td>yes</td></tr></table>", "yes", "2", "a cat on a mat"],
    "suffix": "<loc0010><loc0020><loc0500><loc0600> cat",
    "boxes": [[0.01, 0.02, 0.5, 0.6]],
    "labels": ["cat"],
    "areas": [9.5],
    "size": [40, 50],
    "crowd_boxes": [[0.5, 0.5, 1.0, 1.0]],
    "crowd_labels": ["cat"],
    "mask": {"size": [4, 5], "counts": [5, 5, 10]},
    "task": "detect",
    "question_type": "is this",
    "answer_type": "yes/no",
    "language": "de",
    "pair": 3,
    "choices": ["yes", "no"],
    "correct": ["yes"],
    "issimple": 1,
    "index": 0,
    "words": ["cat", "?"],
    "legible": [True, False],
    "outlines": ["1,2,30,2,30,20,1,20", "40,20,50,20,45,30"],
    "prediction": "yes",
    "objects": [{"label": "cat", "box": [0.0, 0.0, 0.5, 0.5], "score": 0.5}],
}
_MASK = "".join(f"<seg{i:03}>" for i in range(16))
_PREDICTIONS = st.one_of(
    st.sampled_from(
        ("yes", "2", "two", "", "The answer is A.", "<loc0010><loc0020><loc0500><loc0600> cat",
         f"<loc0010><loc0020><loc0500><loc0600>{_MASK} cat", "9" * 5000, "-1e999", "1/0", "½ %",
         "😀" * 5000, "<loc0001>" * 4000, " " * 20_000 + "<", "a " * 5000, "." * 20_000, "(" * 5000,
         "<table><tr><td>yes", "<table>" * 2000, "<table><tr>" + "<td colspan='99'>x" * 500)
    ),
    ODD_TEXT,
    st.text(max_size=30),
)  # fmt: skip
_PLAIN = tuple(name for name in METRICS if name != "coco_caption")  # which runs Java


@st.composite
def _inputs(draw: Any) -> tuple[str, str, list[dict]]:
    damaged = st.one_of(st.just(_META), damaged_values(_META), damaged_values(_META))
    records = draw(st.lists(damaged, min_size=1, max_size=3))
    records = [record if isinstance(record, dict) else _META for record in records]
    prediction = draw(_PREDICTIONS)
    records = [{**record, "prediction": prediction} for record in records]
    return draw(st.sampled_from(_PLAIN)), prediction, records


def check_metric(given: tuple[str, str, list[dict]], folder: pathlib.Path) -> None:
    """Scores are finite, the same again, and shares lie in 0..1."""
    name, prediction, records = given
    metric = METRICS[name]
    options = {"draw": _draw} if "draw" in metric.needs else {}
    function = get_metric(name, **options)
    meta = {key: value for key, value in records[0].items() if key != "prediction"}

    def scores() -> dict[str, float]:
        again = copied(records if metric.corpus else meta)  # metrics write into records
        return function(again) if metric.corpus else function(prediction, again)

    got = scores()
    if got != scores():
        raise Wrong(f"{name}: {got}, and then {scores()}")
    for key, value in got.items():
        most = 1 if metric.main in key and metric.main not in ("cider", "ser") else math.inf
        if not isinstance(value, int | float) or not -1e-9 <= value <= most + 1e-9:
            raise Wrong(f"{name}: {key} is {value}")


def _draw(codes: Any, box: Any, size: tuple[int, int]) -> Any:
    import numpy as np

    mask = np.zeros(size, bool)
    mask[: size[0] // 2 + 1] = True
    return mask


def check_option(given: tuple[str, dict], folder: pathlib.Path) -> None:
    """Options are refused when the metric is looked up, or fit."""
    get_metric(given[0], **given[1])


_OPTIONS = st.tuples(
    st.one_of(st.sampled_from(_PLAIN), ODD_TEXT),
    st.dictionaries(st.sampled_from(("lower", "key", "strip", "x")), ODD_VALUES, max_size=2),
)

TARGETS = [
    Target("metrics", values_of(_inputs), check_metric, 8),
    Target("options of metrics", values_of(lambda: _OPTIONS), check_option, 1),
]
