"""Words found and read, against counts of pixels and rules that are written out once more."""

import random

import numpy as np
import pytest

from pgjax.errors import DataError, UserError
from pgjax.metrics import get_metric
from pgjax.metrics.spotting import _common
from pgjax.text.locations import format_words, parse_words

SIDE = 64  # pixels of an image; location tokens are 16 to a pixel


def said(rectangle, text):
    x0, y0, x1, y1 = (16 * v for v in rectangle)
    return f"<loc{y0:04}><loc{x0:04}><loc{y1:04}><loc{x1:04}> {text}"


def record(words, answers):
    """Words are (rectangle, text, legible); answers are (rectangle, text)."""
    corners = [f"{x0},{y0},{x1},{y0},{x1},{y1},{x0},{y1}" for (x0, y0, x1, y1), *_ in words]
    return {
        "prediction": " ; ".join(said(*answer) for answer in answers),
        "words": [text for _, text, _ in words],
        "legible": [legible for *_, legible in words],
        "outlines": corners,
        "size": [SIDE, SIDE],
    }


def scene(rng):
    texts = ["Hot", "hot", "Hot!", "(Hot)", "Fish", "&", "a;", "5,-", "x y"]

    def rectangle():
        x0, y0 = rng.randrange(40), rng.randrange(40)
        return x0, y0, x0 + rng.randint(1, 20), y0 + rng.randint(1, 12)

    def near(box):
        moved = [min(max(v + rng.choice([0, 0, 0, 1, -1, 4, -4]), 0), 63) for v in box]
        return moved if moved[0] < moved[2] and moved[1] < moved[3] else box

    words = [(rectangle(), rng.choice(texts), rng.random() < 0.8) for _ in range(rng.randrange(6))]
    answers = [(near(box), rng.choice([text, text, rng.choice(texts)])) for box, text, _ in words]
    answers += [(rectangle(), rng.choice(texts)) for _ in range(rng.randrange(3))]
    answers += rng.sample(answers, rng.randrange(len(answers) + 1))
    return words, answers


def mask(box):
    out = np.zeros((SIDE, SIDE), bool)
    out[box[1] : box[3], box[0] : box[2]] = True
    return out


def counted(words, answers, protocol):
    """Words, answers that count, pairs, right pairs: by pixels, with whole numbers."""
    hazy = [mask(box) for box, _, legible in words if not legible]
    words = [(mask(box), text) for box, text, legible in words if legible]
    icdar = protocol == "icdar"
    kept = []
    for box, text in answers:
        area = mask(box)
        most = max([2 * (area & h).sum() for h in hazy], default=0)
        # HierText's evaluator adds 1e-5 to areas, so that exactly half is less than half.
        if not most > area.sum():
            kept.append((area, text))
    shape = len(words), len(kept)
    inter = np.reshape([(a & w).sum() for w, _ in words for a, _ in kept], shape)
    union = np.reshape([(a | w).sum() for w, _ in words for a, _ in kept], shape)
    pairs = []
    if icdar:
        for i in range(len(words)):
            for j in range(len(kept)):
                if {i} & {p for p, _ in pairs} or {j} & {q for _, q in pairs}:
                    continue
                if 2 * inter[i, j] > union[i, j]:
                    pairs.append((i, j))
    elif inter.size:
        share = inter / union
        for i in range(len(words)):
            j = share[i].argmax()
            if 2 * inter[i, j] > union[i, j] and share[:, j].argmax() == i:
                pairs.append((i, j))

    def equal(word, answer):
        if not icdar:
            return word == answer
        word, answer = word.upper(), answer.upper()
        marks = "!?.:,*\"()·[]/'"
        options = {word}
        if word[0] in marks:
            options.add(word[1:])
        if word[-1] in marks:
            options |= {o[:-1] for o in set(options)}
        return answer in options

    right = sum(equal(words[i][1], kept[j][1]) for i, j in pairs)
    return np.array([len(words), len(kept), len(pairs), right])


@pytest.mark.parametrize("protocol", ["hiertext", "icdar"])
def test_a_thousand_scenes(protocol):
    rng = random.Random(0)
    metric = get_metric("text_spotting", protocol=protocol)
    total, records = np.zeros(4, int), []
    for _ in range(1000):
        words, answers = scene(rng)
        records.append(record(words, answers))
        counts = counted(words, answers, protocol)
        total += counts
        got = metric([dict(records[-1])])
        n, m, pairs, right = map(int, counts)
        none = float(protocol == "hiertext")
        assert got["recall"] == pytest.approx(right / n if n else none)
        assert got["precision"] == pytest.approx(right / m if m else none)
        if n and m:
            assert got["f1"] == pytest.approx(2 * right / (n + m))
            assert got["detection_f1"] == pytest.approx(2 * pairs / (n + m))
    n, m, pairs, right = map(int, total)
    assert min(n, m, pairs, right) > 100 and right < pairs
    scores = metric(records)
    assert scores["f1"] == pytest.approx(2 * right / (n + m))
    assert all(0 <= r["scores"]["f1"] <= 1 for r in records)


def test_polygons_inside_boxes():
    """The common area of a box and a polygon, which may have dents, against many points."""
    rng = np.random.default_rng(0)
    grid = (np.arange(200) + 0.5) / 200
    px, py = np.meshgrid(grid, grid)
    for _ in range(50):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 12)))
        radii = rng.uniform(0.1, 0.5, len(angles))
        points = 0.5 + radii * [np.cos(angles), np.sin(angles)]
        shape = [*map(tuple, points.T)]
        (x0, x1), (y0, y1) = np.sort(rng.random((2, 2)))
        inside = np.zeros_like(px, bool)
        for (ax, ay), (bx, by) in zip(shape, shape[1:] + shape[:1], strict=True):
            crosses = (ay > py) != (by > py)
            inside ^= crosses & (px < ax + (py - ay) / (by - ay) * (bx - ax))
        box = (px >= x0) & (px < x1) & (py >= y0) & (py < y1)
        want = (inside & box).mean()
        assert _common(shape, (x0, y0, x1, y1)) == pytest.approx(want, abs=0.006)


def test_outlines_instead_of_boxes():
    """A diamond fills half of the box around it, and of one a bit smaller more than that."""
    one = {"words": ["Hot"], "legible": [True], "size": [SIDE, SIDE]}
    one |= {"outlines": ["32,0,64,32,32,64,0,32"], "prediction": said((2, 2, 62, 62), "Hot")}
    assert get_metric("text_spotting")([dict(one)])["f1"] == 1
    scores = get_metric("text_spotting", polygons=True)([dict(one)])
    assert (scores["f1"], scores["detection_f1"]) == (1, 1)
    one["prediction"] = said((0, 0, 63, 63), "Hot")
    assert get_metric("text_spotting", polygons=True)([dict(one)])["f1"] == 1
    one["prediction"] = said((0, 0, 63, 40), "Hot")
    assert get_metric("text_spotting", polygons=True)([dict(one)])["f1"] == 0


def test_words_are_read_back_whatever_they_hold():
    words = ["a;", ";", "<", "x ; y", "it's", "<loc>", "5,-"]
    boxes = [(0.1 * i, 0.2, 0.1 * i + 0.05, 0.5) for i in range(len(words))]
    assert [b.label for b in parse_words(format_words(boxes, words))] == words
    text = "<loc0001><loc0002><loc0003> three <loc0005><loc0006><loc0007><loc0008> ok;"
    assert [b.label for b in parse_words(text)] == ["ok;"]
    assert parse_words("no words") == [] and format_words([], []) == ""


def test_wrong_uses():
    with pytest.raises(UserError, match="no protocol 'coco', expected one of hiertext, icdar"):
        get_metric("text_spotting", protocol="coco")([])
    with pytest.raises(DataError, match="needs records"):
        get_metric("text_spotting")([])
    bad = record([((0, 0, 1, 1), "a", True)], []) | {"outlines": ["1,2,3,4"]}
    with pytest.raises(DataError, match="is no polygon"):
        get_metric("text_spotting")([bad])
