"""Pictures for notebooks, the files of scenes, and configs read from Python."""

import json

import numpy as np
import pytest
from PIL import Image

import pgjax
from pgjax.errors import UserError
from pgjax.inference.detections import DetectedObject


def test_masks_and_boxes_are_drawn_where_they_are():
    image = np.zeros((64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[16:48, 16:48] = True
    empty = np.asarray(pgjax.show(image, []))
    sheet = np.asarray(pgjax.show(image, [DetectedObject("a", (16, 16, 48, 48), 0.9, mask)]))
    changed = (sheet != empty)[16 : 16 + 256, 16 : 16 + 256].any(-1)  # 4 times as large
    assert changed[64:192, 64:192].mean() > 0.95
    assert not changed[200:].any() and not changed[:, 200:].any()


def test_as_many_answers_as_images():
    with pytest.raises(UserError, match="2 images, 1 answers"):
        pgjax.show([np.zeros((8, 8, 3), np.uint8)] * 2, ["a"])


def test_scenes_as_files(tmp_path):
    folder = pgjax.write_scenes(tmp_path / "scenes", 5)
    lines = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    coco = json.loads((folder / "instances.json").read_text())
    assert [line["image"] for line in lines] == [i["file_name"] for i in coco["images"]]
    names = {c["id"]: c["name"] for c in coco["categories"]}
    for annotation in coco["annotations"]:
        caption = lines[annotation["image_id"]]["suffix"]
        assert names[annotation["category_id"]] in caption
        x, y, w, h = annotation["bbox"]
        assert 0 <= x < x + w <= 64 and 0 <= y < y + h <= 64
    with Image.open(folder / lines[0]["image"]) as picture:
        assert picture.size == (64, 64)


def test_overrides_win_over_the_mode():
    path = "transfers/forkme.py:variant=tiny,mode=attention"
    config = pgjax.read_config(path, {"optimizer.lr": 0.5, "input.data.fname": "a.jsonl"})
    assert config.optimizer.lr == 0.5 and config.optimizer.name == "sgd"
    assert config.evals.val.data.fname == "a.jsonl"
    with pytest.raises(UserError, match=r"config\.input\.batchsize is not a known key"):
        pgjax.read_config(path, {"input.batchsize": 8})


def test_curves_name_what_there_is(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    assert pgjax.curves(tmp_path).width > 300
    with pytest.raises(UserError, match=r"no 'acc'; it has \['loss'\]"):
        pgjax.curves(tmp_path, "acc")
