import pytest

from pgjax.data.splits import Picked, parse_split
from pgjax.errors import UserError


@pytest.mark.parametrize(
    ("text", "length", "expected"),
    [
        ("all", 5, [(0, 5)]),
        ("train", 5, [(0, 5)]),
        ("[1:3]", 5, [(1, 3)]),
        ("train[2:]", 5, [(2, 5)]),
        ("train[-2:]", 5, [(3, 5)]),
        ("all[:-1]", 5, [(0, 4)]),
        ("train[-4:-1]", 5, [(1, 4)]),
        ("train[ :20% ] + train[80%:]", 10, [(0, 2), (8, 10)]),
        ("train[-20%:]", 10, [(8, 10)]),
        ("train+train", 2, [(0, 2), (0, 2)]),
        ("train[:0]+train[1:]", 3, [(1, 3)]),
        ("train[:0.5%]", 1000, [(0, 5)]),
        # Python rounds halves to even, and so does TFDS.
        ("train[:50%]", 5, [(0, 2)]),
        ("train[:50%]", 7, [(0, 4)]),
        ("train[:1%]", 149, [(0, 1)]),
        ("train[:1%]", 151, [(0, 2)]),
        ("train[33%:66%]", 10, [(3, 7)]),
    ],
)
def test_ranges(text, length, expected):
    assert [(r.start, r.stop) for r in parse_split(text, length)] == expected


@pytest.mark.parametrize("length", [1, 3, 7, 10, 99, 150, 1001])
def test_bounds_are_those_of_tfds(length):
    splits = pytest.importorskip("tensorflow_datasets.core.splits")
    infos = {
        "train": splits.SplitInfo(
            name="train", shard_lengths=[length], num_bytes=1, filename_template=None
        )
    }
    for percent in range(1, 100):
        for part in (f"[:{percent}%]", f"[-{percent}%:]"):
            (theirs,) = splits.AbstractSplit.from_spec(f"train{part}").to_absolute(infos)
            start, stop = theirs.from_ or 0, length if theirs.to is None else theirs.to
            if start >= stop:
                with pytest.raises(UserError, match="is empty"):
                    parse_split(f"train{part}", length)
            else:
                assert parse_split(f"train{part}", length) == [range(start, stop)]


def test_complementary_percentages_share_no_record():
    for length in (1, 2, 5, 99, 151):
        for percent in range(1, 100):
            parts = parse_split(f"train[:{percent}%]+train[{percent}%:]", length)
            assert [i for r in parts for i in r] == list(range(length))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"split '': '' is not understood; expected all or train"),
        ("train+", "'' is not understood"),
        ("val", "'val' is not understood; expected all or train, with or without a slice"),
        ("train[:", r"'train\[:' is not understood"),
        ("train[5]", "is not understood"),
        ("train[a:b]", "is not understood"),
        ("train[:1.5]", "is not understood"),
        ("train[1:2:3]", "is not understood"),
        ("train[10:50%]", "one bound in percent"),
        ("train[:11]", r"'train\[:11\]' goes beyond the 10 records"),
        ("train[-11:]", "goes beyond"),
        ("train[:120%]", "goes beyond"),
        ("train[5:5]", r"split 'train\[5:5\]' of 10 records is empty"),
        ("train[7:3]", "is empty"),
        ("train[:1%]", "is empty"),
    ],
)
def test_messages(text, message):
    with pytest.raises(UserError, match=message):
        parse_split(text, 10)


def test_picked():
    picked = Picked([range(3, 5), range(0, 2)])
    assert len(picked) == 4
    assert [picked[i] for i in range(4)] == [3, 4, 0, 1]
    with pytest.raises(IndexError):
        picked[4]
