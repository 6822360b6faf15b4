"""Objects in an image: read from tokens, drawn, and converted to other tools' formats."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from pgjax.errors import UserError
from pgjax.inference.detections import DetectedObject, Detections, scored_boxes
from pgjax.inference.mask_rle import encode_mask
from pgjax.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.tiny()
SIZE = 40, 60


def found(text, logprob=-1.0):
    tokens = np.array(TOKENIZER.encode(text), np.int32)
    return scored_boxes(TOKENIZER, tokens, np.full(len(tokens), logprob, np.float32))


def test_each_object_has_its_own_score():
    one, two = "<loc0000><loc0000><loc0512><loc1023> a ;", " <loc0100><loc0200><loc0300><loc0400> b"
    tokens = [np.array(TOKENIZER.encode(text), np.int32) for text in (one, two)]
    logprobs = [np.full(len(t), p, np.float32) for t, p in zip(tokens, (-0.5, -2.0), strict=True)]
    pairs = scored_boxes(TOKENIZER, np.concatenate(tokens), np.concatenate(logprobs))
    assert [box.label for box, _ in pairs] == ["a", "b"]
    # The space and the semicolon between objects belong to the one before.
    assert pairs[0][1] > pairs[1][1] and pairs[1][1] == pytest.approx(np.exp(-2.0))


@pytest.mark.parametrize("text", ["", "no such thing", "<loc0001><loc0002>", "a <seg001>"])
def test_an_answer_without_objects(text):
    assert found(text) == []


def ellipse(y, x, radius):
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 / 2 <= radius**2


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)


@pytest.fixture
def detections(image):
    objects = [
        DetectedObject("bee", (5.0, 10.0, 25.0, 40.0), 0.9, ellipse(15, 25, 9)),
        DetectedObject("flower", (10.5, 0.0, 39.9, 30.25), 0.5, ellipse(25, 15, 12)),
        DetectedObject("bee", (0.0, 40.0, 8.0, 60.0), 0.25, ellipse(4, 50, 4)),
    ]
    return Detections(objects, SIZE, image)


def test_a_sequence_of_objects(detections):
    objects = list(detections)
    assert len(detections) == 3 and detections[1] is objects[1] and detections == objects
    assert objects == detections and detections[:2] == objects[:2] != detections
    assert isinstance(detections[1:], Detections) and detections[1:].size == SIZE
    same = DetectedObject("bee", (5.0, 10.0, 25.0, 40.0), 0.9, ellipse(15, 25, 9))
    assert same == objects[0] and hash(same) == hash(objects[0])
    assert same != DetectedObject(same.label, same.box, same.score)
    assert Detections([], SIZE) == [] and detections != 3


def test_reprs_are_short(detections):
    text = repr(detections)
    assert text.startswith(
        "Detections(40 x 60 pixels, 3 found: [\n  DetectedObject('bee', box=(5.0"
    )
    count = int(ellipse(15, 25, 9).sum())
    assert f"score=0.900, mask of {count} pixels)" in text and len(text) < 400


def test_notebooks_show_what_was_found(detections, image, tmp_path):
    picture = np.asarray(Image.open(io.BytesIO(detections._repr_png_())))
    assert picture.shape == (160, 240, 3)  # 4 times as large
    inside = picture[::4, ::4][ellipse(25, 15, 11) & ~ellipse(15, 25, 9)]
    assert np.any(inside != image[ellipse(25, 15, 11) & ~ellipse(15, 25, 9)], axis=1).mean() > 0.9
    Image.fromarray(image).save(tmp_path / "a.png")
    of_file = Detections(list(detections), SIZE, tmp_path / "a.png")
    np.testing.assert_array_equal(of_file.draw(), detections.draw())
    (tmp_path / "a.png").unlink()
    assert of_file._repr_png_() is None is Detections([], SIZE)._repr_png_()
    np.testing.assert_array_equal(Detections([], SIZE).draw(image), image)
    with pytest.raises(UserError, match="do not know their image"):
        Detections([], SIZE).draw()
    with pytest.raises(UserError, match="60 x 40 pixels .* expected the 40 x 60"):
        detections.draw(image.transpose(1, 0, 2))


CATEGORIES = [{"id": 7, "name": "bee"}, {"id": 3, "name": "leaf"}]


def test_coco_results(detections):
    results = detections.to_coco(image_id=5, categories=CATEGORIES)
    assert json.loads(json.dumps(results)) == results
    assert [r["category_id"] for r in results] == [7, 7] and results[0]["image_id"] == 5
    assert results[0]["bbox"] == [10, 5, 30, 20] and results[1]["score"] == 0.25
    assert detections.to_coco(image_id=5, categories={"bee": 7}) == results
    boxes = Detections([DetectedObject("bee", (0, 0, 1, 1), 1)], SIZE)
    assert "segmentation" not in boxes.to_coco(image_id=1, categories={"bee": 1})[0]


def test_coco_reads_the_results(detections, tmp_path):
    """The annotations are the detections themselves, so that average precision is 1."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    results = detections.to_coco(image_id=5, categories=CATEGORIES)
    truth = [
        {**r, "id": i, "iscrowd": 0, "area": r["bbox"][2] * r["bbox"][3]}
        for i, r in enumerate(results, 1)
    ]
    images = [{"id": 5, "height": SIZE[0], "width": SIZE[1]}]
    whole = {"info": {}, "images": images, "annotations": truth, "categories": CATEGORIES}
    (tmp_path / "truth.json").write_text(json.dumps(whole))
    (tmp_path / "results.json").write_text(json.dumps(results))
    annotations = coco.COCO(str(tmp_path / "truth.json"))
    loaded = annotations.loadRes(str(tmp_path / "results.json"))
    bees = [x for x in detections if x.label == "bee"]
    for thing, annotation in zip(bees, loaded.loadAnns(loaded.getAnnIds()), strict=True):
        np.testing.assert_array_equal(loaded.annToMask(annotation).astype(bool), thing.mask)
    for kind in ("bbox", "segm"):
        scores = evaluation.COCOeval(annotations, loaded, kind)
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
        assert scores.stats[0] == pytest.approx(1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (37, 53), (300, 400)])
def test_masks_are_encoded_as_pycocotools_does(shape):
    library = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(1)
    for share in (0, 0.02, 0.5, 0.999, 1):
        mask = rng.uniform(size=shape) < share
        for each in (mask, np.repeat(mask, 7, axis=0)):
            want = library.encode(np.asfortranarray(each.astype(np.uint8)))
            got = encode_mask(each)
            assert got == {"size": list(each.shape), "counts": want["counts"].decode()}


@pytest.mark.filterwarnings("ignore")
def test_supervision(detections):
    supervision = pytest.importorskip("supervision")
    found = detections.to_supervision()
    assert isinstance(found, supervision.Detections) and len(found) == 3
    np.testing.assert_array_equal(found.xyxy[0], [10, 5, 40, 25])
    np.testing.assert_array_equal(found.mask, [x.mask for x in detections])
    np.testing.assert_allclose(found.confidence, [0.9, 0.5, 0.25])
    assert found.class_id.tolist() == [0, 1, 0]
    assert found.data["class_name"].tolist() == ["bee", "flower", "bee"]
    kept = detections.to_supervision({"flower": 4})
    assert kept.class_id.tolist() == [4] and len(kept.mask) == 1
    assert Detections([], SIZE).to_supervision().is_empty()
    boxes = Detections([DetectedObject("a", (0, 0, 1, 1), 1)], SIZE).to_supervision()
    assert boxes.mask is None and len(boxes[boxes.confidence > 0.5]) == 1


def test_without_supervision(detections, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match="pip install .paligemma-jax.supervision"):
        detections.to_supervision()
