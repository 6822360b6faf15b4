"""What is wrong with annotations is listed with its place, and the rest is written."""

import gzip
import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image, ImageOps

from pgjax.data.importers import json_stream
from pgjax.data.importers.annotated import AnnotatedObject
from pgjax.data.importers.json_stream import elements
from pgjax.data.importers.orientation import turn_object
from pgjax.data.masks import mask_box
from pgjax.errors import DataError, UserError
from pgjax.run_lengths import decompressed, run_length_mask

H, W = 100, 200
GOOD = {"id": 1, "image_id": 0, "category_id": 7, "bbox": [20, 10, 60, 40]}
SQUARE = [[50, 20, 110, 20, 110, 80, 50, 80]]


def coco(path, annotations, images=None, names=("cat", "wild dog")):
    content = {
        "images": images or [{"id": 0, "file_name": "a.jpg", "width": W, "height": H}],
        "categories": [{"id": 7 + 2 * i, "name": name} for i, name in enumerate(names)],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def imported(program, tmp_path):
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (W, H), "grey").save(tmp_path / name)

    def run(source, *args, status=0):
        out = tmp_path / "out.jsonl"
        said = program("make-jsonl", source, "--out", out, *args, status=status)
        return [json.loads(line) for line in out.read_text().splitlines()], said

    return run


# ---- EXIF ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_was_shown_is_brought_to_what_is_stored(orientation):
    """Pillow turns the stored mask; annotations on what it shows come back to it."""
    stored = np.zeros((6, 9), np.uint8)
    stored[1:3, 2:7] = 255
    image = Image.fromarray(stored)
    image.getexif()[0x0112] = orientation
    shown = np.asarray(ImageOps.exif_transpose(image)) > 0
    thing = turn_object(AnnotatedObject("x", mask_box(shown), shown), orientation)
    np.testing.assert_array_equal(thing.mask, stored > 0)
    np.testing.assert_allclose(thing.box, (1 / 6, 2 / 9, 3 / 6, 7 / 9))


def turned(path, orientation, size=(W, H)):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, "grey").save(path, exif=exif)


SHOWN = [60, 150, 30, 40]  # x, y, width, height in an image shown 100 wide and 200 high


@pytest.mark.parametrize(
    ("orientation", "size", "bbox", "args", "box"),
    [
        (6, (100, 200), SHOWN, (), [0.1, 0.75, 0.4, 0.95]),
        (8, (100, 200), SHOWN, (), [0.6, 0.05, 0.9, 0.25]),
        (6, (50, 100), [20, 10, 30, 40], (), [0, 0.1, 0.6, 0.5]),  # as shown, at half the size
        (6, (200, 100), GOOD["bbox"], (), [0.1, 0.1, 0.5, 0.4]),  # as stored
        (3, (200, 100), GOOD["bbox"], ("--annotated=stored",), [0.1, 0.1, 0.5, 0.4]),
        (3, (200, 100), GOOD["bbox"], ("--annotated=shown",), [0.5, 0.6, 0.9, 0.9]),
        (1, (400, 200), GOOD["bbox"], (), [0.05, 0.05, 0.25, 0.2]),  # at twice the size
    ],
)
def test_exif(imported, tmp_path, orientation, size, bbox, args, box):
    turned(tmp_path / "a.jpg", orientation)
    image = {"id": 0, "file_name": "a.jpg", "width": size[0], "height": size[1]}
    lines, said = imported(coco(tmp_path / "x.json", [{**GOOD, "bbox": bbox}], [image]), *args)
    np.testing.assert_allclose(lines[0]["boxes"], [box], atol=1e-9)
    assert "NOTE: 1 × the " in said.err and "(a.jpg)" in said.err


@pytest.mark.parametrize(
    ("orientation", "size", "reason"),
    [
        (1, (100, 200), "are for 100x200 pixels, but the image has 200x100"),
        (6, (100, 100), "are for 100x100 pixels"),
        (3, (200, 100), "--annotated=stored or --annotated=shown"),
        (2, (200, 100), "--annotated=stored or --annotated=shown"),
        (6, (None, None), ""),
    ],
)
def test_annotations_that_may_be_for_another_image(imported, tmp_path, orientation, size, reason):
    turned(tmp_path / "a.jpg", orientation)
    images = [
        {"id": 0, "file_name": "a.jpg", "width": size[0], "height": size[1]},
        {"id": 1, "file_name": "b.jpg", "width": W, "height": H},
    ]
    file = coco(tmp_path / "x.json", [GOOD, {**GOOD, "image_id": 1}], images)
    lines, said = imported(file, status=3 if reason else 0)
    assert [line["image"] for line in lines] == ["a.jpg", "b.jpg"][bool(reason) :]
    assert reason in said.err and ("left out: a.jpg: " in said.err) == bool(reason)


# ---- names, ids, duplicates ----------------------------------------------------------------------


def test_names_are_cleaned_or_refused(imported, tmp_path):
    names = [" cat ", "car; red", "a <b> c", 3, None, {"x": 1}, "", "two\nlines"]
    annotations = [{**GOOD, "id": i, "category_id": 7 + 2 * i} for i in range(len(names))]
    lines, said = imported(coco(tmp_path / "x.json", annotations, names=names), status=3)
    assert [x["labels"][0] for x in lines] == ["cat", "car, red", "a b c", "3", "two lines"]
    assert said.err.count("left out:") == 3 and "the name ' cat ' was written as 'cat'" in said.err


def test_images_with_one_id_are_left_out(imported, tmp_path):
    images = [
        {"id": 0, "file_name": "a.jpg", "width": W, "height": H},
        {"id": 0, "file_name": "b.jpg", "width": W, "height": H},
        {"id": 1, "file_name": "b.jpg", "width": W, "height": H},
        {"id": [2], "file_name": "b.jpg", "width": W, "height": H},
    ]
    file = coco(tmp_path / "x.json", [GOOD, {**GOOD, "image_id": 1}], images)
    lines, said = imported(file, status=3)
    assert [line["image"] for line in lines] == ["b.jpg"]
    assert "more than one image has the id 0" in said.err and said.err.count("left out:") == 2


def test_entries_with_one_file_are_joined(imported, tmp_path):
    images = [{"id": i, "file_name": "a.jpg", "width": W, "height": H} for i in range(2)]
    annotations = [
        GOOD,
        {**GOOD, "id": 2, "image_id": 1},
        {**GOOD, "id": 3, "image_id": 1, "bbox": [100, 50, 100, 50]},
    ]
    lines, said = imported(coco(tmp_path / "x.json", annotations, images), status=3)
    assert len(lines) == 1 and len(lines[0]["boxes"]) == 2
    assert "listed more than once" in said.err and "same as another" in said.err


def test_labels_that_are_not_there(imported, tmp_path):
    images = [
        {"id": i, "file_name": name, "width": W, "height": H}
        for i, name in enumerate(("a.jpg", "b.jpg"))
    ]
    annotations = [GOOD, {**GOOD, "id": 2, "image_id": 1, "category_id": 9}]
    file = coco(tmp_path / "x.json", annotations, images, names=("cat", "dog", "unused"))
    assert len(imported(file)[0]) == 2
    lines, said = imported(file, "--evaluation")
    asked = {(line["image"], line["prefix"]): line["suffix"] for line in lines}
    assert len(asked) == len(lines) == 4
    assert asked["a.jpg", "detect dog"] == asked["b.jpg", "detect cat"] == ""
    assert "2 negative lines" in said.out
    assert imported(file, "--evaluation")[0] == lines
    assert len(imported(file, "--evaluation", "--negatives=0")[0]) == 2
    # What was left out is not known to be absent.
    crowd = {**GOOD, "id": 3, "category_id": 9, "iscrowd": 1}
    file = coco(tmp_path / "x.json", [*annotations, crowd], images, names=("cat", "dog"))
    lines, _ = imported(file, "--negatives=5", status=3)
    assert [line["image"] for line in lines if not line["suffix"]] == ["b.jpg"]


# ---- masks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        {"segmentation": {"counts": [1], "size": [10**6, 10**6]}},
        {"segmentation": {"counts": [1], "size": [H, W]}},
        {"segmentation": {"counts": [0, H * W + 1], "size": [H, W]}},
        {"segmentation": {"counts": [-1, H * W + 1], "size": [H, W]}},
        {"segmentation": {"counts": [0.0, H * W], "size": [H, W]}},
        {"segmentation": {"counts": "PPPPPPPP", "size": [H, W]}},
        {"segmentation": {"counts": "\u00e9", "size": [H, W]}},
        {"segmentation": {"counts": [H * W], "size": [H, W]}},
        {"segmentation": {"size": [H, W]}},
        {"segmentation": []},
        {"segmentation": [[]]},
        {"segmentation": [[1, 1, 2]]},
        {"segmentation": [[5, 5, 20, 20]]},
        {"segmentation": [[1, 1, 2, 2, "3", None]]},
        {"segmentation": [[1, 1, 1e30, 2, 3, 3]]},
        {"segmentation": [[1, 1, float("nan"), 2, 3, 3]]},
        {"segmentation": [[[1, 1], [2, 2]]]},
        {"segmentation": None},
        {"segmentation": "x"},
        {"image_id": 1},
        {"image_id": 2},
        {"category_id": []},
    ],
)  # fmt: skip
def test_bad_masks_are_left_out(imported, tmp_path, bad):
    images = [
        {"id": 0, "file_name": "a.jpg", "width": W, "height": H},
        {"id": 1, "file_name": "b.jpg", "width": 5, "height": 10**9},
        {"id": 2, "width": W, "height": H},
    ]
    good = {**GOOD, "segmentation": SQUARE}
    file = coco(tmp_path / "x.json", [{**good, "id": 9, **bad}, good], images)
    lines, said = imported(file, "--masks", "--tiny", status=3)
    assert len(lines) == 1 and len(lines[0]["boxes"]) == 1
    np.testing.assert_allclose(lines[0]["boxes"][0], [0.2, 0.25, 0.8, 0.55], atol=0.006)
    assert "left out:" in said.err


@pytest.mark.parametrize("height", [0, -5, [1], "x", float("nan"), 10**9, True and 10**400])
@pytest.mark.parametrize("masks", [False, True])
def test_bad_sizes_are_left_out(imported, tmp_path, height, masks):
    images = [
        {"id": 0, "file_name": "a.jpg", "width": W, "height": height},
        {"id": 1, "file_name": "b.jpg", "width": W, "height": H},
    ]
    good = {**GOOD, "segmentation": SQUARE}
    file = coco(tmp_path / "x.json", [good, {**good, "image_id": 1}], images)
    args = ("--masks", "--tiny") if masks else ()
    lines, said = imported(file, *args, status=3)
    assert [line["image"] for line in lines] == ["b.jpg"] and "say height" in said.err


@pytest.mark.parametrize("size", [(None, None), ("100", "200"), (100.0, 200.0)])
def test_sizes_in_other_forms(imported, tmp_path, size):
    images = [{"id": 0, "file_name": "a.jpg", "width": size[1], "height": size[0]}]
    lines, _ = imported(coco(tmp_path / "x.json", [GOOD], images))
    assert lines[0]["boxes"] == [[0.1, 0.1, 0.5, 0.4]]


@pytest.mark.parametrize(
    "bbox",
    [None, [], [1, 2, 3], [1, 2, 3, "x"], [1, 2, 3, float("nan")], [1, 2, 0, 5], [1, 2, -5, 5],
     [300, 2, 5, 5], "1234", [[1], 2, 3, 4], [1, 2, 10**400, 4]],
)  # fmt: skip
def test_bad_boxes_are_left_out(imported, tmp_path, bbox):
    file = coco(tmp_path / "x.json", [{**GOOD, "id": 2, "bbox": bbox}, GOOD])
    lines, said = imported(file, status=3)
    assert len(lines) == 1 and "left out: a.jpg, annotation 2: " in said.err


def test_run_lengths_are_those_of_pycocotools():
    from pycocotools import mask as coco_mask

    rng = np.random.default_rng(0)
    for _ in range(100):
        size = tuple(rng.integers(1, 60, 2).tolist())
        mask = rng.random(size) < rng.choice([0.0, 0.02, 0.5, 1.0])
        coded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        text = coded["counts"].decode()
        counts = decompressed(text)
        assert sum(counts) == mask.size
        for form in (counts, text):
            got = run_length_mask({"counts": form, "size": list(size)}, size)
            np.testing.assert_array_equal(got, mask)


def test_damaged_run_lengths():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        text = "".join(map(chr, rng.integers(32, 127, rng.integers(0, 12))))
        try:
            mask = run_length_mask({"counts": text, "size": [8, 9]}, (8, 9))
        except DataError:
            continue
        assert mask.shape == (8, 9)


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gzip"])
def test_encodings_and_names(imported, tmp_path, encoding):
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (W, H)).save(tmp_path / "sub" / "é.jpg")
    images = [{"id": 0, "file_name": "sub\\é.jpg", "width": W, "height": H}]
    text = json.dumps({
        "images": images, "categories": [{"id": 7, "name": "Fuß"}], "annotations": [GOOD],
    }, ensure_ascii=False)  # fmt: skip
    data = gzip.compress(text.encode()) if encoding == "gzip" else text.encode(encoding)
    (tmp_path / "x.json").write_bytes(data)
    lines, _ = imported(tmp_path / "x.json")
    assert lines[0]["image"] == "sub/é.jpg" and lines[0]["labels"] == ["Fuß"]


def test_arrays_are_read_one_by_one(tmp_path):
    content = {"a": [1, "x", [2, [3]], {"k": [4]}, None, 1.5e3], "b": {"c": []}, "d": [], "e": 12}
    for indent in (None, 3):
        (tmp_path / "x.json").write_text(json.dumps(content, indent=indent) + "\n ")
        found = list(elements(tmp_path / "x.json"))
        assert found == [*(("a", v) for v in content["a"]), ("b", {"c": []}), ("e", 12)]


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", '{"a"', '{"a": [1', '{"a": [1 2]}', '{1: 2}', '{"a": tru}',
             "null", '{"a": ' + "[" * 100_000]
)  # fmt: skip
def test_json_that_is_none(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json is (not a JSON object|nested too deeply)"):
        list(elements(tmp_path / "x.json"))


def test_a_long_value_is_not_scanned_too_often(tmp_path, monkeypatch):
    """Each time, as much again is read: 16 megabytes take 5 tries, and not 16."""
    fills = []
    fill = json_stream._Scanner._fill
    monkeypatch.setattr(json_stream._Scanner, "_fill", lambda self: fills.append(1) or fill(self))
    numbers = list(range(2_000_000))
    (tmp_path / "x.json").write_text(json.dumps({"a": [numbers]}))
    assert list(elements(tmp_path / "x.json")) == [("a", numbers)]
    assert len(fills) <= 8


def test_a_large_file_is_never_in_memory(tmp_path):
    """20 MB of polygons, of which a reader that keeps none needs a few."""
    with (tmp_path / "x.json").open("w") as f:
        f.write('{"images": [], "annotations": [')
        f.write(",".join(json.dumps({"id": i, "outline": [i / 7] * 50}) for i in range(20_000)))
        f.write("]}")
    assert (tmp_path / "x.json").stat().st_size > 15e6
    tracemalloc.start()
    count = sum(1 for _ in elements(tmp_path / "x.json"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_000 and peak < 8e6


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/etc/passwd", "", ".", "a\0b.jpg", "x" * 5000, "\ud800.jpg"]
)
def test_names_of_files_that_are_none(imported, tmp_path, name):
    images = [
        {"id": 0, "file_name": name, "width": W, "height": H},
        {"id": 1, "file_name": "b.jpg", "width": W, "height": H},
    ]
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (W, H)).save(folder / "b.jpg")
    file = coco(tmp_path / "x.json", [GOOD, {**GOOD, "image_id": 1}], images)
    lines, _ = imported(file, "--images", folder, status=3)
    assert [line["image"] for line in lines] == ["in/b.jpg"]
