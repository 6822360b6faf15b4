import collections
import pickle
import re

import numpy as np
import pytest

from pgjax.data.scenes import (
    COLORS,
    OUTLINE_CODES,
    OUTLINES,
    TASKS,
    WORDINGS,
    SceneSource,
    coverage,
)
from pgjax.errors import UserError
from pgjax.inference.mask_codec import open_codec
from pgjax.metrics import get_metric
from pgjax.text.locations import parse_boxes

ALL = tuple(TASKS)


def read(source, n):
    return [source[i] for i in range(n)]


def examples(n=400, **kwargs):
    return read(SceneSource(**{"tasks": ALL, **kwargs}), n)


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("style", ["plain", "rich"])
def test_pure_function_of_seed_split_and_index(style):
    source = SceneSource(style=style, tasks=ALL)
    copy = pickle.loads(pickle.dumps(source))
    first = read(source, 40)
    again = [copy[np.int64(i)] for i in reversed(range(40))][::-1]
    assert all(map(same, first, again))
    images = {example["image"].tobytes() for example in first}
    assert len(images) == len(first)
    for other in ({"seed": 1}, {"split": "val"}):
        assert images.isdisjoint(e["image"].tobytes() for e in examples(40, style=style, **other))


def test_splits_share_no_scene():
    images = [
        example["image"].tobytes()
        for split in ("train", "val", "test")
        for example in read(SceneSource(split=split, style="plain"), 500)
    ]
    assert len(set(images)) == len(images)


def test_sequence():
    source = SceneSource("val", num_examples=3)
    assert len(source) == 3 and source.where(1) == source[1]["id"] == "scenes/val:1"
    assert len(list(source)) == 3
    for i in (3, -1):
        with pytest.raises(IndexError):
            source[i]


@pytest.mark.parametrize("size", [32, 64, 224])
def test_layout_of_an_example(size):
    for example in examples(16, size=size):
        assert example["image"].shape == (size, size, 3)
        assert example["image"].dtype == np.uint8
        assert example["answers"] == [example["suffix"]]
        assert len(example["boxes"]) == len(example["labels"])


def difference(image, background):
    """Bounding box (y0, x0, y1, x1) of the pixels that differ from the background."""
    differs = (image != background).any(-1)
    ys, xs = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    return ys[0], xs[0], ys[-1] + 1, xs[-1] + 1


@pytest.mark.parametrize("size", [64, 96])
def test_box_bounds_the_drawn_pixels(size):
    kinds = collections.Counter()
    for example in examples(80, tasks=["detect"], max_shapes=1, style="plain", size=size):
        image, box = example["image"], example["boxes"][0]
        assert difference(image, image[0, 0]) == tuple(v * size for v in box)
        kinds[example["prefix"].split()[-1]] += 1
    assert kinds.keys() == OUTLINES.keys()


def test_shape_has_its_color():
    for example in examples(60, tasks=["detect"], style="plain"):
        y0, x0, y1, x1 = (round(v * 64) for v in example["boxes"][0])
        color = example["prefix"].split()[1]
        middle = example["image"][(y0 + y1) // 2, (x0 + x1) // 2]
        assert tuple(middle) == COLORS[color]


def test_locations_name_the_boxes_exactly():
    for example in examples(200, tasks=["detect", "detect_all"]):
        parsed = parse_boxes(example["suffix"])
        assert [list(box[:4]) for box in parsed] == example["boxes"]
        assert [box.label for box in parsed] == example["labels"]
        assert example["prefix"] == f"detect {parsed[0].label}"
        for token in re.findall(r"<loc(\d{4})>", example["suffix"]):
            assert int(token) % 32 == 0 and 0 < int(token) < 1023


def objects(caption, wording):
    """Reads (size, color, kind) back from a caption."""
    names = re.split(r", | and ", caption)
    if wording == "quickstart":
        assert all(name.startswith("a ") for name in names)
        names = [name.removeprefix("a ") for name in names]
    return [tuple(name.split()) for name in names]


@pytest.mark.parametrize("wording", WORDINGS)
def test_captions_read_back(wording):
    counts = collections.Counter()
    for example in examples(200, tasks=["caption"], wording=wording):
        named = objects(example["suffix"], wording)
        counts[len(named)] += 1
        for size, color, kind in named:
            assert size in ("small", "large") and color in COLORS and kind in OUTLINES
    assert counts.keys() == {1, 2, 3, 4}


def test_answers_agree_with_the_scene():
    """Every answer is recomputed here from the shapes that were drawn."""
    source = SceneSource(tasks=ALL, wording="pt")
    drawn = [source.draw(i) for i in range(100 * len(ALL))]
    assert all(same(example, source[i]) for i, (example, _) in enumerate(drawn[:20]))
    for task in ALL:
        asked = [(example, shapes) for example, shapes in drawn if example["task"] == task]
        assert len(asked) == 100
        for example, shapes in asked:
            prefix, suffix, words = example["prefix"], example["suffix"], example["prefix"].split()
            for i, a in enumerate(shapes):
                assert all(1 <= v <= 31 for v in a.box)
                for b in shapes[:i]:  # Rows or columns that they share leave no common cell.
                    rows = set(range(a.box[0], a.box[2])) & set(range(b.box[0], b.box[2]))
                    columns = set(range(a.box[1], a.box[3])) & set(range(b.box[1], b.box[3]))
                    assert not (rows and columns)
            named = [s for s in shapes if prefix.endswith(f"{s.color} {s.kind}")]
            kinds = [s for s in shapes if s.kind == words[-1]]
            if task == "caption":
                order = sorted(shapes, key=lambda s: s.box[1] + s.box[3])
                assert objects(suffix, "pt") == [(s.size, s.color, s.kind) for s in order]
            elif task == "count":
                assert suffix == str(len(shapes if words[-1] == "shape" else kinds))
            elif task == "color":
                assert [suffix] == [s.color for s in kinds]
            elif task == "shape":
                assert [suffix] == [s.kind for s in shapes if s.color == words[-1]]
            elif task == "size":
                assert [suffix] == [s.size for s in named]
            elif task == "where":
                (y, x) = named[0].center
                distances = {"left": x, "right": 32 - x, "top": y, "bottom": 32 - y}
                assert suffix == min(distances, key=distances.get) and len(named) == 1
            elif task == "exists":
                assert suffix == ("yes" if named else "no")
            else:
                expected = kinds if task == "detect_all" else named
                assert example["boxes"] == [[v / 32 for v in s.box] for s in expected]


def test_answers_vary():
    answers = collections.defaultdict(collections.Counter)
    for example in examples(200 * len(ALL)):
        answers[example["task"]][example["suffix"]] += 1
    assert answers["count"].keys() == {"0", "1", "2", "3", "4"}
    assert answers["color"].keys() == COLORS.keys()
    assert answers["where"].keys() == {"left", "right", "top", "bottom"}
    assert 0.4 < answers["exists"]["yes"] / 200 < 0.6
    assert max(answers["count"].values()) < 120


def test_wordings():
    prompts = {example["task"]: example["prefix"] for example in examples(len(ALL))}
    assert prompts["caption"] == "caption en"
    assert re.fullmatch(r"answer en how many [a-z]+s are there\?", prompts["count"])
    assert re.fullmatch(r"answer en what color is the [a-z]+\?", prompts["color"])
    assert all(set(wording) == set(TASKS) for wording in WORDINGS.values())


def test_references_score_full_marks():
    metric = get_metric("by_task")
    for example in examples(90):
        assert metric(example["suffix"], example)["acc"] == 1.0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"tasks": ["captoin"]}, r"task 'captoin' is unknown, expected one of caption, count"),
        ({"tasks": []}, "tasks is empty"),
        ({"style": "fancy"}, "'fancy' is unknown, expected one of plain, rich"),
        ({"wording": "en"}, "'en' is unknown, expected one of pt, quickstart"),
        ({"size": 50}, "size is 50, expected a positive multiple of 32"),
        ({"max_shapes": 5}, "max_shapes is 5, expected 1 to 4"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_mistakes_are_named(kwargs, message):
    with pytest.raises(UserError, match=message):
        SceneSource(**kwargs)


def test_masks_decode_to_the_outlines():
    codec = open_codec(tiny=True)
    for kind, codes in OUTLINE_CODES.items():
        got, want = codec.decode(codes) > 0, coverage(kind, 64)[..., 0] > 0.5
        assert (got & want).sum() / (got | want).sum() > 0.95, kind


def test_segment_answers_with_a_box_and_the_codes():
    for example in examples(40, tasks=["segment"], wording="pt"):
        (thing,) = parse_boxes(example["suffix"])
        assert example["prefix"] == f"segment {thing.label}"
        assert thing.codes == OUTLINE_CODES[thing.label.split()[1]]
        assert list(thing[:4]) == example["boxes"][0]
