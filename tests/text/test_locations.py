import numpy as np
import pytest
from growth import grows_linearly

from pgjax.errors import DataError
from pgjax.text.locations import Box, clean_label, format_boxes, parse_boxes, to_bins


def test_one_and_several():
    text = (
        "<loc0256><loc0064><loc0768><loc0512> red circle ; <loc0000><loc0001><loc1022><loc1023> é"
    )
    assert parse_boxes(text) == [
        Box(256 / 1024, 64 / 1024, 768 / 1024, 512 / 1024, "red circle"),
        Box(0, 1 / 1024, 1022 / 1024, 1023 / 1024, "é"),
    ]


def test_round_trip():
    rng = np.random.default_rng(0)
    for n in range(5):
        corners = rng.integers(0, 512, size=(n, 2))
        boxes = np.concatenate([corners, corners + rng.integers(1, 512, size=(n, 2))], 1) / 1024
        labels = [f"label {i}" for i in range(n)]
        parsed = parse_boxes(format_boxes(boxes, labels))
        assert [box[:4] for box in parsed] == [tuple(box) for box in boxes.tolist()]
        assert [box.label for box in parsed] == labels


def test_format():
    assert format_boxes([], []) == ""
    text = format_boxes([(0, 0.5, 1, 1)], ["cat"])
    assert text == "<loc0000><loc0512><loc1023><loc1023> cat"


@pytest.mark.parametrize(
    "box", [(0, 0, 64, 64), (0.5, 0, 0.5, 1), (0.6, 0, 0.5, 1), (-0.1, 0, 1, 1), (0, 0, 1, np.nan)]
)
def test_format_refuses(box):
    with pytest.raises(DataError, match=r"The box of 'cat'.*fractions"):
        format_boxes([box], ["cat"])
    with pytest.raises(DataError, match="1 boxes and 2 labels"):
        format_boxes([(0, 0, 1, 1)], ["a", "b"])


CODES = tuple(range(0, 128, 8))


def test_codes_of_a_mask():
    text = "<loc0001><loc0002><loc0003><loc0004>"
    codes = "".join(f"<seg{code:03d}>" for code in CODES)
    box = (1 / 1024, 2 / 1024, 3 / 1024, 4 / 1024, "cat")
    assert parse_boxes(f"{text}{codes} cat ; ") == [Box(*box, CODES)]
    assert format_boxes([box[:4]] * 2, ["cat", "dog"], [CODES, CODES]) == (
        f"{text}{codes} cat ; {text}{codes} dog"
    )
    # A mask that does not have 16 codes of 128 is none; the box counts all the same.
    for bad in ("<seg012>" * 15, "<seg012>" * 17, "<seg012>" * 15 + "<seg128>"):
        assert parse_boxes(f"{text}{bad} cat") == [Box(*box)]


@pytest.mark.parametrize("codes", [[CODES[:15]], [(*CODES[:15], 128)], [(*CODES[:15], -1)]])
def test_format_refuses_codes(codes):
    with pytest.raises(DataError, match=r"expected 16 in 0\.\.127"):
        format_boxes([(0, 0, 1, 1)], ["cat"], codes)
    with pytest.raises(DataError, match="1 boxes and 2 masks"):
        format_boxes([(0, 0, 1, 1)], ["cat"], [CODES, CODES])


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ; ;; ",
        "cat",
        "<loc0001><loc0002><loc0003> cat",
        "<loc0001><loc0002><loc0003><loc0004><loc0005> cat",
        "<loc0001><loc0002><loc0003><loc1024> cat",
        "<loc1><loc2><loc3><loc4> cat",
        "<loc0001><loc0002><loc0003><loc0004> cat <loc0005",
        "<loc٠٠٠١><loc0002><loc0003><loc0004> cat",
    ],
)
def test_malformed_is_left_out(text):
    assert parse_boxes(text) == []
    good = "<loc0001><loc0002><loc0003><loc0004> dog"
    assert [box.label for box in parse_boxes(f"{text} ; {good}")] == ["dog"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # Without a separator, or with one that lacks spaces.
        ("A cat B dog", [("A", "cat"), ("B", "dog")]),
        ("A cat;B dog", [("A", "cat"), ("B", "dog")]),
        ("A cat ;B dog ;", [("A", "cat"), ("B", "dog")]),
        ("AcatBdog", [("A", "cat"), ("B", "dog")]),
        ("Here: A cat\nB dog", [("A", "cat"), ("B", "dog")]),
        ("A cat ; and more B dog", [("A", "cat"), ("B", "dog")]),
        ("A car; red ; B dog", [("A", "car; red"), ("B", "dog")]),
        ("<loc0001> A cat ; B dog", [("B", "dog")]),  # five tokens are no box
        # Edges in the other order, and boxes without extent.
        ("<loc0003><loc0004><loc0001><loc0002> cat", [("A", "cat")]),
        ("<loc0003><loc0002><loc0001><loc0004> cat", [("A", "cat")]),
        ("<loc0102><loc0051><loc0103><loc0051> x", [((102, 51, 103, 52), "x")]),
        ("<loc1023><loc1023><loc1023><loc1023> x", [((1022, 1022, 1023, 1023), "x")]),
        ("<loc0000><loc0000><loc0000><loc0000> x", [((0, 0, 1, 1), "x")]),
    ],
)
def test_other_separators_and_edges(text, found):
    boxes = {"A": (1, 2, 3, 4), "B": (5, 6, 7, 8)}
    tokens = {k: "".join(f"<loc{v:04}>" for v in box) for k, box in boxes.items()}
    for key, value in tokens.items():
        text = text.replace(key, value)
    got = [(tuple(round(v * 1024) for v in box[:4]), box.label) for box in parse_boxes(text)]
    assert got == [(boxes.get(box, box), label) for box, label in found]


def test_published_scores_want_edges_in_order():
    text = "<loc0003><loc0002><loc0001><loc0004> a ; <loc0001><loc0002><loc0001><loc0004> b ; "
    text += "<loc0001><loc0002><loc0003><loc0004> c"
    assert [box.label for box in parse_boxes(text, mend=False)] == ["c"]
    assert [box.label for box in parse_boxes(text)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("low", "high", "bins"),
    [
        (51.0, 51.2, (51, 52)),
        (50.6, 51.4, (51, 52)),
        (50.9, 51.1, (51, 52)),
        (0.0, 0.1, (0, 1)),
        (1023.2, 1024.0, (1022, 1023)),
        (1023.9, 1024.0, (1022, 1023)),
        (10.4, 11.6, (10, 12)),
    ],
)
def test_narrow_boxes_are_one_bin_wide(low, high, bins):
    assert to_bins(low / 1024, high / 1024) == bins
    (box,) = parse_boxes(format_boxes([(low / 1024, 0, high / 1024, 1)], ["x"]))
    assert (round(box.y0 * 1024), round(box.y1 * 1024)) == bins


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        (" cat ", "cat"), ("car; red", "car, red"), ("a <b> c", "a b c"), (3, "3"), (2.5, "2.5"),
        ("two\nlines\t here", "two lines here"), ("naïve 猫", "naïve 猫"), ("<loc0001>", "loc0001"),
        ("a ; b", "a , b"), ("\u3000wide\u3000", "wide"),
    ],
)  # fmt: skip
def test_names_are_cleaned(name, cleaned):
    assert clean_label(name) == cleaned
    (box,) = parse_boxes(format_boxes([(0, 0, 1, 1)], [cleaned]))
    assert box.label == cleaned


@pytest.mark.parametrize("name", [None, [], {}, True, "", "  ", ";", "<>", "\ud800", "a\0b"])
def test_names_that_cannot_be_cleaned(name):
    with pytest.raises(DataError, match="the name"):
        clean_label(name)


@pytest.mark.parametrize("label", [" cat", "cat ", "a;b", "a<b", "a>b", "a\nb", 3, None])
def test_labels_that_would_not_be_read_back_are_refused(label):
    with pytest.raises(DataError, match="would not be read back"):
        format_boxes([(0, 0, 1, 1)], [label])


def test_round_trip_of_any_objects():
    """Nothing is lost, and no edge moves by more than one bin."""
    rng = np.random.default_rng(1)
    letters = [*"abcXYZ 01,.-'é猫\u00a0", ";", "<", ">", "\n"]
    for _ in range(500):
        count = int(rng.integers(0, 6))
        edges = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1)
        tiny = rng.random((count, 2)) < 0.4  # much narrower than a bin
        edges[:, 1] = np.where(tiny, edges[:, 0] + (1 - edges[:, 0]) * 1e-5, edges[:, 1])
        boxes = edges.reshape(count, 4).tolist()
        names = [clean_label("x" + "".join(rng.choice(letters, 8))) for _ in boxes]
        codes = rng.integers(0, 128, (count, 16)).tolist() if rng.random() < 0.5 else None
        found = parse_boxes(format_boxes(boxes, names, codes))
        assert [box.label for box in found] == names
        assert [list(box.codes) for box in found] == (codes or [[]] * count)
        for box, wanted in zip(found, boxes, strict=True):
            wanted = np.minimum(np.array(wanted) * 1024, 1023)
            assert abs(np.array(box[:4]) * 1024 - wanted).max() <= 1 + 1e-9


@pytest.mark.parametrize(
    "make",
    [
        lambda n: "<loc0001>" * 4 + " " * n + "<",
        lambda n: "<loc0001> " * n,
        lambda n: "<loc0001>" * 4 + "<seg001>" * n,
        lambda n: ("<loc0001>" * 4 + " x ; ") * (n // 40),
        lambda n: "<loc" * n,
        lambda n: " ; " * n,
    ],
)
def test_reading_takes_linear_time(make):
    assert grows_linearly(parse_boxes, make, 25_000)


def test_anything_goes():
    rng = np.random.default_rng(0)
    pieces = ["<loc0001>", "<loc0900>", "<seg001>", " ", ";", "cat", "<", ">", "\n", "\ud800", "\0"]
    for _ in range(300):
        for box in parse_boxes("".join(rng.choice(pieces, size=12))):
            assert 0 <= box.y0 < box.y1 < 1 and 0 <= box.x0 < box.x1 < 1
            assert "<" not in box.label and ">" not in box.label
