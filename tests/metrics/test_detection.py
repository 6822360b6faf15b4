"""COCO average precision, against the definition worked out by hand."""

import numpy as np
import pytest

from pgjax.errors import DataError
from pgjax.metrics import get_metric

metric = get_metric("mean_average_precision")
listed = get_metric("listed_objects")


def thing(box, score=0.9, label="a"):
    return {"label": label, "box": box, "score": score}


def record(truth, *found, label="a"):
    return {"boxes": truth, "labels": [label] * len(truth), "objects": list(found)}


BOX, OTHER = (0.1, 0.1, 0.5, 0.5), (0.6, 0.5, 0.9, 0.9)


def test_all_found_and_none_found():
    assert metric([record([BOX, OTHER], thing(OTHER), thing(BOX))])["mAP"] == pytest.approx(1)
    assert metric([record([BOX])]) == {"mAP": 0, "AP50": 0, "AP75": 0}
    assert metric([record([BOX], thing(OTHER))])["mAP"] == 0


def test_looser_boxes_count_at_looser_thresholds():
    """IoU 0.8: right at 0.50 … 0.80 but for rounding at 0.80 itself, wrong from 0.85 on."""
    scores = metric([record([BOX], thing((0.1, 0.1, 0.5, 0.425)))])  # IoU 0.8125
    assert scores == pytest.approx({"mAP": 0.7, "AP50": 1, "AP75": 1})


def test_ranking_over_all_pictures():
    """A wrong box before the right one halves precision, after it costs nothing."""
    wrong_first = [record([BOX], thing(BOX, 0.3)), record([], thing(OTHER, 0.9))]
    wrong_last = [record([BOX], thing(BOX, 0.9)), record([], thing(OTHER, 0.3))]
    assert metric(wrong_first)["AP50"] == pytest.approx(0.5)
    assert metric(wrong_last)["AP50"] == pytest.approx(1)


def test_average_precision_by_hand():
    """Ranked right, wrong, right; 3 there: 101 recall points, the last third never reached."""
    third = (0.0, 0.6, 0.3, 0.9)
    scores = metric(
        [record([BOX, OTHER, third], thing(BOX, 0.9), thing((0, 0, 0.1, 0.1), 0.8),
                thing(OTHER, 0.7))]
    )  # fmt: skip
    recalls = np.linspace(0, 1, 101)
    precision = np.where(recalls <= 1 / 3, 1, np.where(recalls <= 2 / 3, 2 / 3, 0))
    assert scores["AP50"] == pytest.approx(precision.mean())


def test_mean_over_labels_and_labels_nobody_asked_for():
    records = [record([BOX], thing(BOX)), record([OTHER], label="b")]
    assert metric(records)["mAP"] == pytest.approx(0.5)
    records[1]["objects"] = [thing(OTHER, label="c")]
    assert metric(records)["mAP"] == pytest.approx(0.5)


def test_reference_in_the_text():
    text = "<loc0102><loc0102><loc0512><loc0512> a ; <loc0614><loc0512><loc0922><loc0922> b"
    found = [thing((0.1, 0.1, 0.5, 0.5)), thing((0.6, 0.5, 0.9, 0.9), label="b")]
    assert metric([{"suffix": text, "objects": found}])["mAP"] == pytest.approx(1)


def test_equal_to_pycocotools_in_pixels():
    """The same boxes as a COCO file of pictures of 640 x 480."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(0)
    records, images, truths, guesses = [], [], [], []
    for image in range(1, 41):
        images.append({"id": image, "width": 640, "height": 480})
        things, found = [], []
        for _ in range(rng.integers(0, 6)):
            y, x = rng.uniform(0, 0.6, 2)
            h, w = rng.uniform(0.05, 0.4, 2)
            label = int(rng.integers(3))
            things.append(((y, x, y + h, x + w), label))
            for _ in range(rng.integers(0, 3)):
                box = np.array((y, x, y + h, x + w)) + rng.normal(0, 0.02, 4)
                guess = int(label if rng.random() < 0.8 else rng.integers(3))
                found.append(thing(tuple(box), float(rng.random()), "abc"[guess]))
        records.append({
            "boxes": [box for box, _ in things],
            "labels": ["abc"[label] for _, label in things],
            "objects": found,
        })  # fmt: skip
        for boxes, entries in (
            ([(b, n, {"iscrowd": 0}) for b, n in things], truths),
            ([(f["box"], "abc".index(f["label"]), {"score": f["score"]}) for f in found], guesses),
        ):
            for (y0, x0, y1, x1), label, more in boxes:
                side = [(x1 - x0) * 640, (y1 - y0) * 480]
                entries.append({
                    "id": len(entries) + 1, "image_id": image, "category_id": label + 1,
                    "bbox": [x0 * 640, y0 * 480, *side], "area": side[0] * side[1], **more,
                })  # fmt: skip
    coco = COCO()
    coco.dataset = {
        "images": images,
        "annotations": truths,
        "categories": [{"id": i, "name": n} for i, n in enumerate("abc", 1)],
    }
    coco.createIndex()
    judge = COCOeval(coco, coco.loadRes(guesses), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    scores = metric(records)
    np.testing.assert_allclose(list(scores.values()), judge.stats[:3], atol=1e-12)
    assert 0.1 < scores["mAP"] < 0.9


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_pycocotools_with_sizes_areas_and_crowds(seed):
    """The official evaluation of files in COCO's format, for images of different sizes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(seed)
    images, truths, guesses, records = [], [], [], []
    for image in range(1, 61):
        height, width = map(int, rng.integers(50, 640, 2))
        images.append({"id": image, "height": height, "width": width})
        record = {k: [] for k in ("boxes", "labels", "areas", "crowd_boxes", "crowd_labels")}
        records.append({**record, "size": [height, width], "objects": []})
        for _ in range(rng.integers(0, 8)):
            corner, side = rng.uniform(0, 0.6, 2), rng.uniform(0.02, 0.4, 2)
            label, crowd = int(rng.integers(3)), bool(rng.random() < 0.2)
            box = np.concatenate([corner, corner + side])
            area = float(np.prod(side) * height * width * rng.uniform(0.5, 1))
            y, x, h, w = (*corner * (height, width), *side * (height, width))
            truths.append({
                "id": len(truths) + 1, "image_id": image, "category_id": label + 1, "area": area,
                "bbox": [x, y, w, h], "iscrowd": int(crowd),
            })  # fmt: skip
            kind = "crowd_" if crowd else ""
            records[-1][f"{kind}boxes"].append(box.tolist())
            records[-1][f"{kind}labels"].append("abc"[label])
            records[-1]["areas"] += [] if crowd else [area]
            for _ in range(rng.integers(0, 4)):
                guess, score = box + rng.normal(0, 0.02, 4), float(rng.random())
                y0, x0, y1, x1 = guess * [height, width, height, width]
                guesses.append({
                    "image_id": image, "category_id": label + 1, "score": score,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                })  # fmt: skip
                records[-1]["objects"].append(thing(guess.tolist(), score, "abc"[label]))
    coco = COCO()
    categories = [{"id": i, "name": n} for i, n in enumerate("abc", 1)]
    coco.dataset = {"images": images, "annotations": truths, "categories": categories}
    coco.createIndex()
    judge = COCOeval(coco, coco.loadRes(guesses), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    scores = metric(records)
    assert [*scores][3:] == ["mAP/small", "mAP/medium", "mAP/large"]
    np.testing.assert_allclose(list(scores.values()), judge.stats[:6], atol=1e-12)
    assert len({round(score, 3) for score in scores.values()}) == 6


def test_an_object_in_a_crowd_is_neither_right_nor_wrong():
    crowd = {"crowd_boxes": [OTHER], "crowd_labels": ["a"]}
    found = thing(BOX, 0.5), thing((0.6, 0.5, 0.7, 0.6), 0.9)
    assert metric([record([BOX], *found)])["mAP"] == pytest.approx(0.5)
    assert metric([{**record([BOX], *found), **crowd}])["mAP"] == pytest.approx(1)
    with pytest.raises(DataError, match="none of 1 references has any"):
        metric([{**record([]), **crowd}])


def test_nothing_to_compare_with():
    with pytest.raises(DataError, match="none of 1 references has any"):
        metric([record([])])
    with pytest.raises(DataError, match=r"'boxes' and 'labels', or 'suffix'.*\['prediction'\]"):
        metric([{"prediction": "x"}])


def test_listed_objects_by_hand():
    """One of three with IoU 0.81, then one exactly; the third is there with another label."""
    meta = {"suffix": "<loc0000><loc0000><loc0100><loc0100> a ; <loc0500><loc0500><loc0600>"
            "<loc0600> a ; <loc0800><loc0800><loc0900><loc0900> b"}  # fmt: skip
    answer = (
        "<loc0500><loc0500><loc0600><loc0581> a ; <loc0000><loc0000><loc0100><loc0100> a ; "
        "<loc0800><loc0800><loc0900><loc0900> a ; nothing"
    )
    # Seven thresholds at which both are right, three at which the second is the first hit.
    assert listed(answer, meta)["ap"] == pytest.approx((7 * (1 + 1) + 3 * 1 / 2) / 3 / 10)
    assert listed(meta["suffix"], meta) == {"ap": 1}
    twice = " ; ".join([meta["suffix"]] * 2)  # what has been found is not found again
    assert listed(twice, meta) == {"ap": 1}
    assert listed("", meta) == {"ap": 0} and listed("", {"suffix": ""}) == {"ap": 1}
    assert listed(meta["suffix"], {"suffix": ""}) == {"ap": 0}
    boxes = {"boxes": [[0, 0, 100 / 1024, 100 / 1024]], "labels": ["a"]}
    assert listed(answer.split(" ; ")[1], boxes) == {"ap": 1}
