"""What a visitor can take away: boxes as JSON and in COCO's format, masks as PNG files."""

import base64
import io
import json
import pathlib
import zipfile
from typing import Any

import numpy as np
from PIL import Image

from pgjax.demo.answering import Result
from pgjax.inference.detections import Detections


def downloads(result: Result) -> list[tuple[str, str, str]]:
    """What there is to download of a result with objects: (label, name of the file, its URL).

    The URLs hold the data, so that nothing is left behind on the disk.
    """
    assert result.found is not None
    found, file_name = result.found, result.question.name
    name = pathlib.PurePath(file_name).stem
    files = [
        ("boxes (JSON)", f"{name}_boxes.json", "application/json", _as_json(result)),
        (
            "boxes (COCO)",
            f"{name}_coco.json",
            "application/json",
            _as_coco(found, file_name),
        ),
    ]
    if any(x.mask is not None for x in found):
        files.append(("masks (PNG)", f"{name}_masks.zip", "application/zip", _as_zip(found)))
    return [
        (label, file, f"data:{kind};base64,{base64.b64encode(data).decode()}")
        for label, file, kind, data in files
    ]


def _as_json(result: Result) -> bytes:
    assert result.found is not None
    height, width = result.found.size
    return _json(
        {
            "image": result.question.name,
            "height": height,
            "width": width,
            "checkpoint": result.checkpoint,
            "prefix": result.question.prompt,
            "prediction": result.text,
            "objects": result.found.to_records(),
        }
    )


def _as_coco(found: Detections, name: str) -> bytes:
    """A whole file of annotations, as tools for annotating and `pgjax make-jsonl` read it."""
    height, width = found.size
    labels = {label: i for i, label in enumerate(dict.fromkeys(x.label for x in found), 1)}
    annotations = found.to_coco(image_id=1, categories=labels)
    for i, (annotation, x) in enumerate(zip(annotations, found, strict=True), 1):
        _, _, w, h = annotation["bbox"]
        area = w * h if x.mask is None else int(np.count_nonzero(x.mask))
        annotation |= {"id": i, "area": area, "iscrowd": 0}
    return _json(
        {
            "images": [{"id": 1, "file_name": name, "height": height, "width": width}],
            "categories": [{"id": i, "name": label} for label, i in labels.items()],
            "annotations": annotations,
        }
    )


def _as_zip(found: Detections) -> bytes:
    """A PNG of black and white for each object, of the image's size."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for i, x in enumerate(found, 1):
            if x.mask is None:
                continue
            png = io.BytesIO()
            Image.fromarray(x.mask).save(png, "PNG")
            label = "".join(c if c.isalnum() else "_" for c in x.label)[:40]
            archive.writestr(f"{i:02d}_{label}.png", png.getvalue())
    return packed.getvalue()


def _json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")
