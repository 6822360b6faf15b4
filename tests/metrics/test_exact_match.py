import pytest

from pgjax.errors import DataError
from pgjax.metrics.exact_match import exact_match


@pytest.mark.parametrize(
    ("prediction", "meta", "options", "acc"),
    [
        ("two", {"suffix": "two"}, {}, 1.0),
        (" two\n", {"suffix": "two"}, {}, 1.0),
        (" two", {"suffix": "two"}, {"strip": False}, 0.0),
        ("Two", {"suffix": "two"}, {}, 0.0),
        ("Two", {"suffix": "tWo"}, {"lower": True}, 1.0),
        ("b", {"answers": ["a", "b"], "suffix": "c"}, {}, 1.0),
        ("c", {"answers": ["a", "b"], "suffix": "c"}, {}, 0.0),
        ("", {"suffix": ""}, {}, 1.0),
    ],
)
def test_exact_match(prediction, meta, options, acc):
    assert exact_match(prediction, meta, **options) == {"acc": acc}


def test_unlabelled_and_unusable():
    assert exact_match("a", {"answers": []}) == {}
    with pytest.raises(DataError, match="'answers' or 'suffix'"):
        exact_match("a", {"label": 3})
