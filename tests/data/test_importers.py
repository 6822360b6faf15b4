"""Annotations in other programs' formats, each with its own oddities, against values by hand."""

import base64
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from pgjax.text.locations import parse_boxes

H, W = 100, 200
CAT = [0.1, 0.1, 0.5, 0.4]  # y0, x0, y1, x1: pixels 20…80 across, 10…50 down
DOG = [0.5, 0.5, 1.0, 1.0]


def photo(path, size=(W, H), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "grey").save(path, **options)
    return path


def png():
    data = io.BytesIO()
    Image.new("RGB", (W, H), "grey").save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def imported(program, tmp_path):
    """Runs make-jsonl; returns its lines, and what it said."""

    def run(source, *args, status=0):
        out = tmp_path / "out.jsonl"
        said = program("make-jsonl", source, "--out", out, *args, status=status)
        return [json.loads(line) for line in out.read_text().splitlines()], said

    return run


def check(lines, expected):
    """Compares {(image, label): boxes} within a thousandth of a pixel; tokens within a bin."""
    found = {(line["image"].rsplit("/", 1)[-1], line["labels"][0]): line for line in lines}
    assert found.keys() == expected.keys() and len(lines) == len(found)
    for key, boxes in expected.items():
        line = found[key]
        np.testing.assert_allclose(line["boxes"], boxes, atol=1e-5)
        read = [box[:4] for box in parse_boxes(line["suffix"])]
        np.testing.assert_allclose(read, np.minimum(boxes, 1023 / 1024), atol=1 / 1024)
        assert line["prefix"] == f"detect {key[1]}"


BOTH = {("a.jpg", "cat"): [CAT], ("a.jpg", "dog"): [DOG]}


def test_coco_of_roboflow(imported, tmp_path):
    photo(tmp_path / "train/a.jpg")
    photo(tmp_path / "train/b.jpg")
    content = {
        "info": {"year": "2026"},
        "licenses": [{"id": 1, "url": "x", "name": "y"}],
        # The first category is a supercategory that no annotation has.
        "categories": [
            {"id": 0, "name": "animals", "supercategory": "none"},
            {"id": 1, "name": "cat", "supercategory": "animals"},
            {"id": 2, "name": "dog", "supercategory": "animals"},
        ],
        "images": [
            {"id": 0, "license": 1, "file_name": "a.jpg", "height": H, "width": W},
            {"id": 1, "license": 1, "file_name": "b.jpg", "height": H, "width": W},
        ],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 1, "bbox": [20, 10, 60, 40], "area": 2400,
             "segmentation": [], "iscrowd": 0},
            {"id": 1, "image_id": 0, "category_id": 2, "bbox": [100, 50, 100, 50], "area": 5000,
             "segmentation": [], "iscrowd": 0},
        ],
    }  # fmt: skip
    (tmp_path / "train/_annotations.coco.json").write_text(json.dumps(content))
    lines, said = imported(tmp_path / "train")
    check(lines, BOTH)
    assert "COCO, as Roboflow exports it" in said.out
    assert "1 images without an object have no line" in said.err
    lines, said = imported(tmp_path / "train", "--evaluation")
    (empty,) = [line for line in lines if not line["suffix"]]
    assert empty["image"].endswith("b.jpg") and empty["boxes"] == empty["labels"] == []
    assert empty["prefix"] in ("detect cat", "detect dog")  # never the supercategory


def test_roboflow_jsonl(imported, tmp_path):
    photo(tmp_path / "dataset/a.jpg")
    good = "<loc0102><loc0102><loc0512><loc0410> cat ; <loc0512><loc0512><loc1023><loc1023> dog"
    lines = [
        {"image": "a.jpg", "prefix": "detect cat ; dog", "suffix": good},
        {"image": "a.jpg", "prefix": "detect cat ; dog", "suffix": good.replace(" ; ", " ")},
        {"image": "a.jpg", "prefix": "what is it?", "suffix": "a cat and a dog"},
        {"image": "a.jpg", "prefix": "detect x", "suffix": "<loc0102><loc0102><loc0512> x"},
        {"image": "gone.jpg", "prefix": "", "suffix": "x"},
        {"image": "a.jpg", "suffix": None},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + "\n{not json\n"
    (tmp_path / "dataset/_annotations.train.jsonl").write_text(text)
    (tmp_path / "dataset/_annotations.valid.jsonl").write_text(json.dumps(lines[2]) + "\n")
    found, said = imported(tmp_path / "dataset", status=3)
    assert [line["suffix"] for line in found] == [good, good, "a cat and a dog"]
    assert found[1]["labels"] == ["cat", "dog"]
    np.testing.assert_allclose(found[1]["boxes"], [CAT, DOG], atol=1 / 1024)
    assert said.err.count("left out:") == 4
    assert len(imported(tmp_path / "dataset", "--split=valid")[0]) == 1


@pytest.mark.parametrize("names", [["cat", "dog"], {0: "cat", 1: "dog"}])
@pytest.mark.parametrize("entry", ["../train/images", "train/images", ["train/images"]])
def test_yolo(imported, tmp_path, names, entry):
    for name in ("a", "b", "c"):
        photo(tmp_path / f"set/train/images/{name}.jpg")
    labels = tmp_path / "set/train/labels"
    labels.mkdir()
    # A class as a float, trailing spaces, a polygon, a box that leaves the image, an empty file.
    lines = (
        "0 0.25 0.3 0.3 0.4  \r\n\r\n1.0 0.5 0.5 1.0 0.5 1.0 1.0 0.5 1.0\n7 0.5 0.5 0.1 0.1\nx\n"
    )
    (labels / "a.txt").write_bytes(lines.encode())
    (labels / "b.txt").write_text("")
    (tmp_path / "set/data.yaml").write_text(json.dumps({"train": entry, "names": names, "nc": 2}))
    if isinstance(names, dict):
        text = (tmp_path / "set/data.yaml").read_text().replace('"0"', "0").replace('"1"', "1")
        (tmp_path / "set/data.yaml").write_text(text)
    lines, said = imported(tmp_path / "set", status=3)
    check(lines, BOTH)
    assert "YOLO" in said.out and "2 images without an object" in said.out
    assert "a.txt:4: class '7' is not among the 2 names" in said.err and "a.txt:5" in said.err


def test_pascal_voc(imported, tmp_path):
    photo(tmp_path / "voc/JPEGImages/a.jpg")
    (tmp_path / "voc/Annotations").mkdir()
    # Pixels count from 1, and the last one is included. Parts are no objects of their own.
    text = f"""<annotation><folder>x</folder><filename>a.jpg</filename>
      <size><width>{W}</width><height>{H}</height><depth>3</depth></size>
      <object><name>cat</name><difficult>0</difficult>
        <part><name>head</name><bndbox><xmin>30</xmin><ymin>20</ymin><xmax>40</xmax>
          <ymax>30</ymax></bndbox></part>
        <bndbox><xmax>80</xmax><xmin>21.0</xmin><ymax>50</ymax><ymin>11</ymin></bndbox></object>
      <object><name>dog</name><bndbox><xmin>101</xmin><ymin>51</ymin><xmax>200</xmax>
        <ymax>100</ymax></bndbox></object>
      <object><name>dog</name><bndbox><xmin>oops</xmin></bndbox></object></annotation>"""
    (tmp_path / "voc/Annotations/a.xml").write_text(text)
    (tmp_path / "voc/Annotations/b.xml").write_text("<annotation>")
    lines, said = imported(tmp_path / "voc", status=3)
    check(lines, BOTH)
    assert "Pascal VOC" in said.out and said.err.count("left out:") == 2


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_imagefolder(imported, tmp_path, kind):
    for name in ("a.jpg", "sub/b.jpg"):
        photo(tmp_path / "set" / name)
    if kind == "csv":
        text = (
            '\ufefffile_name,text\r\na.jpg,"two, lines\nof text"\r\nsub\\b.jpg,b\r\ngone.jpg,c\r\n'
        )
        (tmp_path / "set/metadata.csv").write_bytes(text.encode())
        expected = [("caption en", "two, lines\nof text"), ("caption en", "b")]
    else:
        rows = [
            {"file_name": "a.jpg", "question": "what?", "answers": ["x", "y"]},
            {"file_name": "sub/b.jpg", "prefix": "p", "suffix": "s"},
            {"file_name": "sub/b.jpg", "weight": 3},
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "set/metadata.jsonl").write_text(text)
        expected = [("answer en what?", "x"), ("p", "s")]
    lines, said = imported(tmp_path / "set", status=3)
    assert [(line["prefix"], line["suffix"]) for line in lines] == expected
    assert [line["image"] for line in lines] == ["set/a.jpg", "set/sub/b.jpg"]
    assert said.err.count("left out:") == 1


def test_imagefolder_with_boxes(imported, tmp_path):
    photo(tmp_path / "set/a.jpg")
    objects = {"bbox": [[20, 10, 60, 40], [100, 50, 100, 50]], "categories": ["cat", "dog"]}
    row = {"file_name": "a.jpg", "objects": objects}
    (tmp_path / "set/metadata.jsonl").write_text(json.dumps(row))
    check(imported(tmp_path / "set")[0], BOTH)


def rectangle(label, x, y, width, height, rotation=0):
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation}
    return {
        "type": "rectanglelabels", "original_width": W, "original_height": H,
        "image_rotation": 0, "value": {**value, "rectanglelabels": [label]},
    }  # fmt: skip


def test_label_studio(imported, tmp_path):
    photo(tmp_path / "images/a.jpg")
    photo(tmp_path / "images/sub/b c.jpg")
    polygon = {
        "type": "polygonlabels", "original_width": W, "original_height": H,
        "value": {"points": [[50, 50], [100, 50], [100, 100], [50, 100]], "polygonlabels": ["dog"]},
    }  # fmt: skip
    brush = {"type": "brushlabels", "value": {"rle": [1], "brushlabels": ["dog"]}}
    # Turned by 90 degrees about its top left corner: 40 pixels wide and 60 high, to the left of it.
    turned = rectangle("cat", 50, 10, 30, 40, 90)
    tasks = [
        {"data": {"image": "/data/upload/3/0a1b2c3d-a.jpg"},
         "annotations": [{"was_cancelled": True, "result": [rectangle("no", 0, 0, 10, 10)]},
                         {"result": [rectangle("cat", 10, 10, 30, 40), polygon, brush]}]},
        {"data": {"image": "/data/local-files/?d=sub/b%20c.jpg"},
         "annotations": [{"result": [turned]}]},
        {"data": {"image": "s3://bucket/gone.jpg"}, "annotations": [{"result": []}]},
        {"data": {"image": "/data/upload/a.jpg"}, "annotations": []},
    ]  # fmt: skip
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    lines, said = imported(tmp_path / "tasks.json", "--images", tmp_path / "images", status=3)
    box = [0.1, (100 - 40) / 200, 0.1 + 0.6, 0.5]
    check(lines, {**BOTH, ("b c.jpg", "cat"): [box]})
    assert said.err.count("left out:") == 3
    small = [{"image": "/data/upload/3/0a1b2c3d-a.jpg", "annotator": 1, "id": 7, "label": [
        {"x": 10, "y": 10, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["cat"],
         "original_width": W, "original_height": H}]}]  # fmt: skip
    (tmp_path / "min.json").write_text(json.dumps(small))
    lines, _ = imported(tmp_path / "min.json", "--images", tmp_path / "images")
    check(lines, {("a.jpg", "cat"): [CAT]})


def test_cvat(imported, tmp_path):
    photo(tmp_path / "images/a.jpg")
    text = f"""<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>
      <meta><task><name>x</name></task></meta>
      <image id="0" name="images/a.jpg" width="{W}" height="{H}">
        <box label="cat" source="manual" occluded="0" xtl="20.00" ytl="10.00" xbr="80.00"
          ybr="50.00" z_order="0"><attribute name="colour">red</attribute></box>
        <polygon label="dog" occluded="0" points="100.0,50.0;200.0,50.0;200.0,100.0;100.0,100.0"/>
        <mask label="mat" rle="1, 2, 3" left="10" top="20" width="3" height="2"/>
        <box label="turned" xtl="30" ytl="40" xbr="70" ybr="60" rotation="90.0"/>
        <tag label="indoors"/>
        <polyline label="way" points="1,1;2,2"/>
      </image>
      <image id="1" name="gone.jpg" width="5" height="5"/></annotations>"""
    (tmp_path / "annotations.xml").write_text(text)
    lines, said = imported(tmp_path / "annotations.xml", status=3)
    mat = [0.2, 11 / 200, 0.21, 13 / 200]  # pixels 1 and 2 of the first of two rows
    turned = [0.3, 40 / 200, 0.7, 60 / 200]
    check(lines, {**BOTH, ("a.jpg", "mat"): [mat], ("a.jpg", "turned"): [turned]})
    assert said.err.count("left out:") == 2 and "polyline" in said.err


def test_labelme(imported, tmp_path):
    photo(tmp_path / "set/a.jpg")
    mask = io.BytesIO()
    Image.new("1", (3, 2), 1).save(mask, "PNG")
    shapes = [
        {"label": "cat", "points": [[80, 10], [20, 50]], "shape_type": "rectangle"},
        {"label": "dog", "points": [[100, 50], [200, 50], [200, 100]], "shape_type": "polygon"},
        {"label": "sun", "points": [[50, 50], [50, 60]], "shape_type": "circle"},
        {"label": "mat", "points": [[10, 20], [12, 21]], "shape_type": "mask",
         "mask": base64.b64encode(mask.getvalue()).decode()},
        {"label": "way", "points": [[1, 1], [2, 2]], "shape_type": "line"},
    ]  # fmt: skip
    content = {
        "version": "5.4", "flags": {}, "shapes": shapes, "imagePath": "..\\set\\a.jpg",
        "imageData": None, "imageHeight": H, "imageWidth": W,
    }  # fmt: skip
    (tmp_path / "set/a.json").write_text(json.dumps(content))
    lines, said = imported(tmp_path / "set", status=3)
    sun, mat = [0.4, 0.2, 0.6, 0.3], [0.2, 0.05, 0.22, 13 / 200]
    check(lines, {**BOTH, ("a.jpg", "sun"): [sun], ("a.jpg", "mat"): [mat]})
    assert "is a line" in said.err
    assert imported(tmp_path / "set/a.json", status=3)[0] == lines


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_parquet_and_saved_data_sets(imported, tmp_path, kind):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    objects = {"bbox": [[20.0, 10, 60, 40], [100, 50, 100, 50]], "category": [0, 1]}
    rows = [{"image": {"bytes": png(), "path": "x.png"}, "objects": objects}]
    rows.append({"image": {"bytes": b"junk", "path": None}, "objects": objects})
    features = {
        "image": {"_type": "Image"},
        "objects": [{"category": {"names": ["cat", "dog"], "_type": "ClassLabel"}}],
    }
    info = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.Table.from_pylist(rows).replace_schema_metadata(info)
    folder = tmp_path / "set"
    folder.mkdir()
    if kind == "parquet":
        pq.write_table(table, folder / "train-00000-of-00001.parquet")
    else:
        path = str(folder / "data-00000-of-00001.arrow")
        with pa.OSFile(path, "wb") as f, pa.ipc.new_stream(f, table.schema) as writer:
            writer.write_table(table)
    lines, said = imported(folder, status=3)
    name = lines[0]["image"].rsplit("/", 1)[-1]
    check(lines, {(name, "cat"): [CAT], (name, "dog"): [DOG]})
    assert (tmp_path / lines[0]["image"]).read_bytes() == png()
    assert "left out: row 1: the image cannot be read" in said.err


def test_webdataset(imported, tmp_path):
    objects = {"bbox": [[20, 10, 60, 40], [100, 50, 100, 50]], "categories": ["cat", "dog"]}
    files = {
        "d/000.png": png(), "d/000.json": json.dumps({"objects": objects}).encode(),
        "d/001.png": png(), "d/001.txt": b"a caption\n",
        "d/002.txt": b"no image",
        "../003.png": png(), "../003.txt": b"outside",
    }  # fmt: skip
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    lines, said = imported(tmp_path / "shard.tar", status=3)
    check(lines[:2], {("d_000.png", "cat"): [CAT], ("d_000.png", "dog"): [DOG]})
    assert [line["suffix"] for line in lines[2:]] == ["a caption", "outside"]
    names = {path.name for path in (tmp_path / "out_images").iterdir()}
    assert names == {"d_000.png", "d_001.png", "003.png"} and "expected one image" in said.err


def test_a_contact_sheet_shows_the_boxes(imported, tmp_path):
    photo(tmp_path / "set/a.jpg")
    row = {"file_name": "a.jpg", "objects": {"bbox": [[20, 10, 60, 40]], "label": ["cat"]}}
    (tmp_path / "set/metadata.jsonl").write_text(json.dumps(row))
    imported(tmp_path / "set", "--sheet", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        colors = {color for _, color in sheet.convert("RGB").getcolors(1 << 20)}
    assert (0xE6, 0x19, 0x4B) in colors  # the first box's
