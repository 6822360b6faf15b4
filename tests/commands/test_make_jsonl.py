"""Annotations as their owners write them, to lines that train and are read back."""

import functools
import json

import numpy as np
import pytest
from PIL import Image

from pgjax.data.masks import crop_mask, paste_mask
from pgjax.data.scenes import coverage
from pgjax.data.sources import make_source
from pgjax.inference.mask_codec import open_codec
from pgjax.text.locations import parse_boxes

H, W = 100, 200


@pytest.fixture
def tool(program):
    return functools.partial(program, "make-jsonl")


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.png"):
        Image.new("RGB", (W, H), "grey").save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def coco(path, annotations, images=("a.jpg", "b.png")):
    content = {
        "images": [
            {"id": i, "file_name": name, "width": W, "height": H} for i, name in enumerate(images)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "wild dog"}],
        "annotations": [{"id": n, **annotation} for n, annotation in enumerate(annotations)],
    }
    path.write_text(json.dumps(content))
    return path


def rectangle(y0, x0, y1, x1):
    mask = np.zeros((H, W), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def run_lengths(mask):
    """COCO's uncompressed code: lengths down the columns, background first."""
    flat = np.concatenate([[0], mask.T.reshape(-1).astype(int)])
    edges = np.flatnonzero(np.diff(flat)).tolist()
    counts = np.diff([0, *edges, mask.size]).tolist()
    return {"counts": counts, "size": [H, W]}


def test_coco_boxes(tool, photos, tmp_path):
    annotations = [
        {"image_id": 0, "category_id": 7, "bbox": [20, 10, 60, 40]},  # x, y, width, height
        {"image_id": 0, "category_id": 9, "bbox": [150.5, 0, 60, 50]},  # leaves the image
        {"image_id": 0, "category_id": 7, "bbox": [100, 50, 100, 50]},
        {"image_id": 1, "category_id": 7, "bbox": [0, 0, 200, 100]},
    ]
    out = photos / "train.jsonl"
    tool(coco(tmp_path / "x.json", annotations), "--images", photos, "--out", out)
    assert [(x["image"], x["prefix"], x["suffix"]) for x in read(out)] == [
        (
            "a.jpg",
            "detect cat",
            "<loc0102><loc0102><loc0512><loc0410> cat ; <loc0512><loc0512><loc1023><loc1023> cat",
        ),
        ("a.jpg", "detect wild dog", "<loc0000><loc0771><loc0512><loc1023> wild dog"),
        ("b.png", "detect cat", "<loc0000><loc0000><loc1023><loc1023> cat"),
    ]
    assert read(out)[0]["boxes"][0] == [0.1, 0.1, 0.5, 0.4]
    source = make_source({"name": "jsonl", "fname": str(out)})
    assert source[2]["suffix"].endswith("cat")


def test_what_is_left_out_is_listed(tool, photos, tmp_path):
    box = {"image_id": 0, "category_id": 7, "bbox": [20, 10, 60, 40]}
    annotations = [
        box,
        {**box, "iscrowd": 1},
        {**box, "category_id": 8},
        {**box, "bbox": [250, 10, 60, 40]},
        {**box, "image_id": 5},
        {**box, "image_id": 1},
    ]
    out = photos / "train.jsonl"
    file = coco(tmp_path / "x.json", annotations, ("a.jpg", "gone.jpg"))
    said = tool(file, "--images", photos, "--out", out, status=3)
    assert len(read(out)) == 1 and "1 lines" in said.out
    for part in (
        "is a crowd",
        "category 8 is not",
        "no area inside",
        "of image 5",
        "no image 'gone.jpg'",
    ):
        assert part in said.err
    assert said.err.count("left out:") == 5


@pytest.mark.parametrize("form", ["polygon", "run lengths", "compressed", "png"])
def test_masks(tool, photos, tmp_path, form):
    wanted = rectangle(20, 50, 80, 110)
    out = tmp_path / "train.jsonl"  # beside the folder of photos
    if form == "png":
        (tmp_path / "masks" / "cat").mkdir(parents=True)
        levels = np.where(wanted, 128, 0) + np.where(rectangle(0, 150, 50, 200), 255, 0)
        Image.fromarray(levels.astype(np.uint8)).save(tmp_path / "masks" / "cat" / "a.png")
        source = tmp_path / "masks"
    else:
        coded = run_lengths(wanted)
        if form == "compressed":
            from pycocotools import mask as coco_mask

            coded = coco_mask.frPyObjects(coded, H, W)
            coded = {**coded, "counts": coded["counts"].decode()}
        if form == "polygon":
            coded = [[50, 20, 110, 20, 110, 80, 50, 80]]
        source = coco(
            tmp_path / "x.json", [{"image_id": 0, "category_id": 7, "segmentation": coded}]
        )
    tool(source, "--images", photos, "--out", out, "--masks", "--tiny")
    (line,) = read(out)
    assert line["image"] == "photos/a.jpg" and line["prefix"] == "segment cat"
    things = parse_boxes(line["suffix"])
    assert len(things) == (2 if form == "png" else 1)
    np.testing.assert_allclose(line["boxes"][0], [0.2, 0.25, 0.8, 0.55], atol=0.006)
    codec = open_codec(tiny=True)
    assert things[0].codes == codec.encode(crop_mask(wanted, line["boxes"][0]))
    pasted = paste_mask(codec.decode(things[0].codes), things[0][:4], (H, W))
    assert (pasted & wanted).sum() / (pasted | wanted).sum() > 0.9


def test_a_mask_that_does_not_fit(tool, photos, tmp_path):
    folder = tmp_path / "masks" / "cat"
    folder.mkdir(parents=True)
    Image.new("L", (10, 10), 255).save(folder / "a.png")
    Image.new("L", (W, H), 0).save(folder / "b.png")
    Image.new("L", (W, H), 255).save(folder / "c.png")
    args = (tmp_path / "masks", "--images", photos, "--out", tmp_path / "x.jsonl")
    said = tool(*args, status=1)
    assert "nothing to write" in said.err and not list(tmp_path.glob("x.*"))
    ramp = np.tile(np.arange(W, dtype=np.uint8), (H, 1))
    Image.fromarray(ramp).save(folder / "a.png")
    disc = np.zeros((H, W), np.uint8)
    disc[10:74, 10:74] = coverage("circle", 64)[..., 0] > 0.5
    Image.fromarray(disc).save(folder / "b.png")
    said = tool(*args, status=3)
    assert "has 199 levels" in said.err and "no image" in said.err
    assert [x["image"] for x in read(tmp_path / "x.jsonl")] == ["photos/b.png"]


def test_no_annotations(tool, photos, tmp_path):
    (tmp_path / "x.json").write_text("[]")
    for name, problem in (("x.json", "is in no known format"), ("none.json", "does not exist")):
        args = (tmp_path / name, "--images", photos, "--out", tmp_path / "x.jsonl")
        said = tool(*args, status=1)
        assert f"{name} {problem}, expected a file of COCO" in said.err
