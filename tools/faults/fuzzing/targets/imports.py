"""Annotations in the formats of `pgjax make-jsonl`."""

import base64
import functools
import io
import json
import pathlib
import random
import tarfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from pgjax.data.importers.annotated import Import, Report
from pgjax.data.importers.lines import LineWriter
from pgjax.data.importers.outlines import polygon_mask
from pgjax.data.importers.recognize import recognize
from pgjax.errors import DataError
from pgjax.run_lengths import run_length_mask
from pgjax.text.locations import parse_boxes
from tools.faults.fuzzing.children import Target, Wrong
from tools.faults.fuzzing.damage import (
    ODD_NUMBERS,
    ODD_VALUES,
    as_json,
    folders_of,
    values_of,
    write_folder,
)
from tools.faults.fuzzing.targets.images import encoded, picture

_W, _H = 200, 100


@functools.cache
def _photo(form: str = "JPEG") -> bytes:
    out = io.BytesIO()
    picture(1, (_W, _H)).save(out, form)
    return out.getvalue()


def _coco() -> dict[str, bytes]:
    square = [[50, 20, 110, 20, 110, 80, 50, 80]]
    runs = {"size": [_H, _W], "counts": [_H * 3, 50, _H * 197 - 50]}
    content = {
        "info": {},
        "images": [
            {"id": 0, "file_name": "a.jpg", "width": _W, "height": _H},
            {"id": 1, "file_name": "b.jpg", "width": _W, "height": _H},
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "wild dog"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 7, "bbox": [20, 10, 60, 40],
             "segmentation": square, "iscrowd": 0},
            {"id": 2, "image_id": 0, "category_id": 9, "bbox": [20, 10, 60, 40],
             "segmentation": runs, "iscrowd": 1},
            {"id": 3, "image_id": 1, "category_id": 9, "bbox": [1.5, 2.5, 3.25, 90],
             "segmentation": {"size": [_H, _W], "counts": "0`n0PQ5"}},
        ],
    }  # fmt: skip
    return {"x.json": as_json(content)}


def _yolo() -> dict[str, bytes]:
    return {
        "x/data.yaml": b"train: ../images\nnc: 2\nnames: [cat, dog]\nval: images\n",
        "x/labels/a.txt": b"0 0.25 0.3 0.3 0.4\n1 0.5 0.5 1.0 0.5 1.0 1.0 0.5 1.0\n",
        "x/images/a.jpg": _photo(),
    }


def _voc() -> dict[str, bytes]:
    text = f"""<annotation><folder>x</folder><filename>a.jpg</filename>
      <size><width>{_W}</width><height>{_H}</height><depth>3</depth></size>
      <object><name>cat</name><bndbox><xmin>21.0</xmin><ymin>11</ymin><xmax>80</xmax>
      <ymax>50</ymax></bndbox></object></annotation>"""
    return {"x/Annotations/a.xml": text.encode(), "x/JPEGImages/a.jpg": _photo()}


def _cvat() -> dict[str, bytes]:
    text = f"""<annotations><version>1.1</version>
      <image id="0" name="a.jpg" width="{_W}" height="{_H}">
      <box label="cat" xtl="20.0" ytl="10.0" xbr="80.0" ybr="50.0" rotation="30"></box>
      <polygon label="dog" points="50,20;110,20;110,80"></polygon>
      <mask label="dog" rle="3,5,4" left="2" top="3" width="4" height="3"></mask>
      <ellipse label="dog" cx="50" cy="20" rx="10" ry="5"></ellipse>
      </image></annotations>"""
    return {"x.xml": text.encode()}


def _label_studio() -> dict[str, bytes]:
    value = {"x": 10, "y": 10, "width": 30, "height": 40, "rotation": 0}
    common = {"original_width": _W, "original_height": _H, "from_name": "label"}
    results = [
        {**common, "type": "rectanglelabels", "value": {**value, "rectanglelabels": ["cat"]}},
        {**common, "type": "polygonlabels",
         "value": {"points": [[10, 10], [50, 10], [50, 60]], "polygonlabels": ["dog"]}},
        {**common, "type": "ellipselabels",
         "value": {"x": 50, "y": 50, "radiusX": 10, "radiusY": 5, "ellipselabels": ["dog"]}},
    ]  # fmt: skip
    task = {
        "id": 1,
        "data": {"image": "/data/upload/1/a.jpg"},
        "annotations": [{"result": results}],
    }
    short = {
        "id": 2,
        "image": "b.jpg",
        "label": [{**value, "rectanglelabels": ["cat"], **common}],
    }
    return {"x.json": as_json([task, short])}


def _labelme() -> dict[str, bytes]:
    shapes = [
        {"label": "cat", "points": [[20, 10], [80, 50]], "shape_type": "rectangle"},
        {"label": "dog", "points": [[50, 20], [110, 20], [110, 80]], "shape_type": "polygon"},
        {"label": "dog", "points": [[50, 20], [60, 20]], "shape_type": "circle"},
        {"label": "dog", "points": [[50, 20], [53, 22]], "shape_type": "mask",
         "mask": base64.b64encode(encoded()[11]).decode()},
    ]  # fmt: skip
    content = {
        "version": "5.4", "shapes": shapes, "imagePath": "a.jpg", "imageData": None,
        "imageHeight": _H, "imageWidth": _W,
    }  # fmt: skip
    return {"x.json": as_json(content)}


def _imagefolder() -> dict[str, bytes]:
    objects = {"bbox": [[20, 10, 60, 40]], "categories": ["cat"]}
    lines = [
        {"file_name": "a.jpg", "text": "a cat"},
        {"file_name": "b.jpg", "objects": objects},
    ]
    return {
        "x/metadata.jsonl": b"\n".join(map(as_json, lines)),
        "x/a.jpg": _photo(),
        "x/b.jpg": _photo(),
    }


def _imagefolder_csv() -> dict[str, bytes]:
    return {"x/metadata.csv": b'file_name,text\na.jpg,"a cat"\nb.jpg,a dog\n', "x/a.jpg": _photo()}


def _roboflow() -> dict[str, bytes]:
    lines = [
        {"image": "a.jpg", "prefix": "detect cat",
         "suffix": "<loc0102><loc0102><loc0512><loc0410> cat"},
        {"image": "b.jpg", "prefix": "what is it?", "suffix": "a cat"},
    ]  # fmt: skip
    return {"x/_annotations.train.jsonl": b"\n".join(map(as_json, lines)), "x/a.jpg": _photo()}


def webdataset() -> dict[str, bytes]:
    """A tar with two samples."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in (
            ("000.jpg", _photo()), ("000.txt", b"a cat"), ("001.png", _photo("PNG")),
            ("001.json", as_json({"caption": "a dog", "prefix": "x", "suffix": "y"})),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return {"x.tar": out.getvalue()}


@functools.cache
def _parquet() -> dict[str, bytes]:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(
        {
            "image": [{"bytes": _photo(), "path": "a.jpg"}] * 3,
            "text": ["a", "b", "c"],
            "objects": [{"bbox": [[20.0, 10.0, 60.0, 40.0]], "category": ["cat"]}] * 3,
        }
    )
    out, arrow = io.BytesIO(), io.BytesIO()
    parquet.write_table(table, out)
    with pyarrow.ipc.new_stream(arrow, table.schema) as writer:
        writer.write_table(table)
    return {"x.parquet": out.getvalue(), "y.arrow": arrow.getvalue()}


def arrow_files() -> list[dict[str, bytes]]:
    """A parquet file, and one of arrow."""
    return [{name: data} for name, data in _parquet().items()]


def _mask_folder() -> dict[str, bytes]:
    levels = np.zeros((_H, _W), np.uint8)
    levels[10:50, 20:80], levels[60:80, 5:9] = 1, 2
    files = {}
    for name, mode in (("x/cat/a.png", "L"), ("x/cat/b.png", "P"), ("x/dog/a.png", "1")):
        out = io.BytesIO()
        image = Image.fromarray(levels * 255 if mode == "1" else levels)
        if mode == "P":
            image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        (image.convert(mode) if mode != "P" else image).save(out, "PNG")
        files[name] = out.getvalue()
    return files


def _encode(mask: np.ndarray) -> list[int]:
    if not mask.any():
        raise Wrong("a mask without a pixel")
    return [0] * 16


def check_import(files: dict[str, bytes], folder: pathlib.Path) -> None:
    """What is written can be read back, has boxes inside the image, and masks of its size."""
    write_folder(folder, {"a.jpg": _photo(), "b.jpg": _photo(), **files})
    written, problems = 0, []
    top = {name.partition("/")[0] for name in files} - {"a.jpg", "b.jpg"}
    for source in sorted(folder / name for name in top):
        found = recognize(source)
        images = folder if not source.is_dir() or not found.beside else source
        for masks in (False, True):
            report = Report()
            writer = LineWriter(images, images, report, _encode if masks else None, 1)
            given = Import(source, images, masks, "train", report)
            for line in writer.lines(_sane(found.read(given), given)):
                again = json.loads(json.dumps(line, ensure_ascii=False).encode())
                if repr(again) != repr(json.loads(json.dumps(line))):
                    raise Wrong(f"{line} became {again}")
                boxes = parse_boxes(line.get("suffix", ""))
                if "boxes" in line and len(boxes) != len(line["boxes"]):
                    raise Wrong(f"{len(boxes)} boxes of {line}")
                for box, read in zip(line.get("boxes", ()), boxes, strict=False):
                    if max(abs(a - b) for a, b in zip(box, read[:4], strict=True)) > 1.51 / 1024:
                        raise Wrong(f"{read} of {line}")
                written += 1
            problems += report.left_out
            for sentence in (*report.left_out, *report.noted()):
                if not isinstance(sentence, str) or len(sentence) > 20_000:
                    raise Wrong(f"a sentence of {len(sentence)} characters: {sentence[:200]}")
    if not written:
        raise DataError(f"nothing is left: {problems[:3]}")


def _sane(images: Iterable[Any], given: Import) -> Iterable[Any]:
    for image in images:
        for thing in image.objects or ():
            y0, x0, y1, x1 = thing.box
            if not (0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1):
                raise Wrong(f"the box {thing.box} in {image.file}")
            if thing.mask is not None and image.size and thing.mask.shape != tuple(image.size):
                raise Wrong(f"a mask of {thing.mask.shape} for {image.size}")
        if image.data is not None:
            (given.images / image.file).write_bytes(image.data)
            image.data = None
        yield image


def _of(make: Callable[[], dict[str, bytes]], pattern: str) -> Any:
    return folders_of(lambda: [make()], pattern)


# ---- masks, compared with pycocotools ------------------------------------------------------------

_SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@st.composite
def _segmentations(draw: Any) -> tuple[Any, tuple[int, int]]:
    size = draw(_SIZES)
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return draw(st.one_of(ODD_VALUES, st.builds(lambda c: {"counts": c}, ODD_VALUES))), size
    if kind == 1:
        edges = st.lists(st.floats(-10, 50), min_size=6, max_size=12).filter(
            lambda v: len(v) % 2 == 0
        )
        return draw(st.lists(edges, min_size=1, max_size=3)), size
    if kind == 2:
        numbers = st.lists(st.one_of(st.floats(-10, 50), ODD_NUMBERS), max_size=12)
        return draw(st.lists(numbers, max_size=3)), size
    total, counts = size[0] * size[1], []
    while total:
        counts.append(draw(st.integers(0, total)))
        total -= counts[-1]
    if kind == 3:
        return {"counts": counts, "size": list(size)}, size
    from pgjax.inference.mask_rle import encode_mask

    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    text = encode_mask(values.reshape(size[::-1]).T)["counts"]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(text) - 1))
        text = text[:at] + draw(st.sampled_from(("", "0", "`", "~", "o" * 9))) + text[at + 1 :]
    return {"counts": text, "size": list(size)}, size


def check_mask(given: tuple[Any, tuple[int, int]], folder: pathlib.Path) -> None:
    """Masks are those of pycocotools."""
    from pycocotools import mask as coco_mask

    segmentation, (height, width) = given
    if isinstance(segmentation, dict):
        got = run_length_mask(segmentation, (height, width))
        codes = segmentation
        if isinstance(codes["counts"], list):
            codes = coco_mask.frPyObjects({**codes, "size": [height, width]}, height, width)
        wanted = coco_mask.decode({"size": [height, width], "counts": codes["counts"]})
    else:
        got = polygon_mask(segmentation, (height, width))
        wanted = coco_mask.decode(
            coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
        )
    if not np.array_equal(got, wanted.astype(bool)):
        raise Wrong(f"other pixels for {segmentation} of {height}x{width}")


def _tars(rng: random.Random, count: int) -> Iterable[Any]:
    import gzip

    for number, files in enumerate(_of(webdataset, "*")(rng, count)):
        packed = number % 3 == 0 and "x.tar" in files
        yield {"x.tar.gz": gzip.compress(files["x.tar"])} if packed else files


TARGETS = [
    Target("COCO", _of(_coco, "*.json"), check_import, 10),
    Target("YOLO", _of(_yolo, "*.[yt]*"), check_import, 4),
    Target("Pascal VOC", _of(_voc, "*.xml"), check_import, 4),
    Target("CVAT", _of(_cvat, "*"), check_import, 4),
    Target("Label Studio", _of(_label_studio, "*.json"), check_import, 6),
    Target("LabelMe", _of(_labelme, "*.json"), check_import, 5),
    Target("image folder, JSONL", _of(_imagefolder, "*.jsonl"), check_import, 3),
    Target("image folder, CSV", _of(_imagefolder_csv, "*.csv"), check_import, 2),
    Target("Roboflow's JSONL", _of(_roboflow, "*.jsonl"), check_import, 3),
    Target("WebDataset", _tars, check_import, 4),
    Target("parquet and arrow", _of(_parquet, "*"), check_import, 5),
    Target("folder of masks", _of(_mask_folder, "*"), check_import, 2),
    Target("segmentations", values_of(_segmentations), check_mask, 8),
]
