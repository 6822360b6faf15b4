"""Label Studio's and LabelMe's JSON."""

import base64
import binascii
import io
import json
import pathlib
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from pgjax.data.importers.annotated import (
    AnnotatedImage,
    AnnotatedObject,
    Import,
    image_size,
    numbers,
    outline_box,
    pixel_box,
    read_text,
)
from pgjax.data.importers.outlines import outlined_object, turned_corners
from pgjax.data.masks import mask_box
from pgjax.errors import DataError, UserError

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # Label Studio puts these before an uploaded name


def parse_json(path: pathlib.Path) -> Any:
    """Parses a JSON file.

    Raises:
      UserError: it is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as e:
        raise UserError(f"{path} is not JSON ({e}).") from None


# ---- Label Studio --------------------------------------------------------------------------------


def is_label_studio(content: Any) -> bool:
    """Whether parsed JSON is a list of Label Studio's tasks, in the form JSON or JSON-MIN."""
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return False
    first = content[0]
    return isinstance(first.get("data"), dict) or ("image" in first and "annotator" in first)


def read_label_studio(given: Import) -> Iterator[AnnotatedImage]:
    """Yields the images of a file that Label Studio exported as JSON or JSON-MIN.

    Of a task that several people annotated, the first annotation that was not cancelled counts.
    """
    for number, task in enumerate(parse_json(given.source), 1):
        with given.report.leaving_out(f"{given.source.name}, task {number}"):
            if not isinstance(task, dict):
                raise DataError("is no object.")
            url, results = _task(task)
            image = AnnotatedImage(given.find_image(*_names(url)), [])
            assert image.objects is not None
            for i, result in enumerate(results, 1):
                with given.report.leaving_out(f"{image.file}, region {i}", image):
                    for thing in _region(result, image, given.masks):
                        image.objects.append(thing)
            yield image


def _task(task: dict[str, Any]) -> tuple[str, list[Any]]:
    """The image's address, and the regions of a task."""
    if isinstance(data := task.get("data"), dict):
        urls = [v for k, v in data.items() if k in ("image", "img", "photo") or _looks_local(v)]
        done = [
            one
            for one in task.get("annotations") or task.get("completions") or []
            if isinstance(one, dict) and not one.get("was_cancelled")
        ]
        if not done:
            raise DataError("has no annotation.")
        results = done[0].get("result") or []
    else:  # JSON-MIN: regions stand under the name of their control
        urls = [task.get("image")]
        lists = [v for v in task.values() if isinstance(v, list)]
        results = [{"value": one, **one} for v in lists for one in v if isinstance(one, dict)]
    if not urls or not isinstance(urls[0], str) or not isinstance(results, list):
        raise DataError("names no image.")
    return urls[0], results


def _looks_local(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("/data/", "s3://", "gs://", "http"))


def _names(url: str) -> list[str]:
    """The names under which an image may lie in the folder."""
    parts = urllib.parse.urlsplit(url)
    query = urllib.parse.parse_qs(parts.query)
    path = query["d"][0] if "d" in query else urllib.parse.unquote(parts.path)
    path = path.lstrip("/").removeprefix("data/upload/")
    name = path.rsplit("/", 1)[-1]
    bare = _UPLOADED.fullmatch(name)
    return [path, name, *([bare[1]] if bare else [])]


def _region(result: Any, image: AnnotatedImage, masks: bool) -> Iterator[AnnotatedObject]:
    value = result.get("value") if isinstance(result, dict) else None
    if not isinstance(value, dict):
        raise DataError("is no region.")
    for kind in ("rectanglelabels", "polygonlabels"):
        if kind in value:
            break
    else:
        kinds = [key for key in value if key.endswith("labels") or key in ("choices", "text")]
        raise DataError(f"is of the kind {kinds}, expected rectanglelabels or polygonlabels.")
    if result.get("image_rotation"):
        raise DataError(f"is drawn on an image turned by {result['image_rotation']} degrees.")
    size = image_size(result.get("original_height"), result.get("original_width"))
    if image.size not in (None, size):
        raise DataError(f"is drawn on {size} pixels (height, width), others on {image.size}.")
    image.size = size
    height, width = size
    labels = value[kind]
    if not isinstance(labels, list) or not labels:
        raise DataError("has no label.")
    if kind == "polygonlabels":
        points = [numbers(p, 2, "a point") for p in value.get("points") or [[]]]
        points = [(x * width / 100, y * height / 100) for x, y in points]
    else:
        if masks:
            raise DataError("is a box, and masks are wanted.")
        given = numbers([value.get(k) for k in ("x", "y", "width", "height")], 4, "the box")
        x, y, w, h = (v * s / 100 for v, s in zip(given, (width, height) * 2, strict=True))
        (angle,) = numbers([value.get("rotation") or 0], 1, "rotation")
        points = turned_corners((x, y, x + w, y + h), angle, (x, y))
    for label in labels:
        yield outlined_object(label, points, size, masks)


# ---- LabelMe -------------------------------------------------------------------------------------


def is_labelme(content: Any) -> bool:
    """Whether parsed JSON is LabelMe's file about one image."""
    return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def read_labelme(given: Import) -> Iterator[AnnotatedImage]:
    """Yields the images of a folder of LabelMe's JSON files, or of one of them."""
    source = given.source
    for file in sorted(source.rglob("*.json")) if source.is_dir() else [source]:
        with given.report.leaving_out(file.name):
            try:
                content = parse_json(file)
            except UserError as e:
                raise DataError(str(e)) from None
            if not is_labelme(content) or not isinstance(content["shapes"], list):
                raise DataError("is not one of LabelMe's files.")
            found = given.find_image(str(content["imagePath"]).replace("../", ""), file.stem)
            size = image_size(content.get("imageHeight"), content.get("imageWidth"))
            image = AnnotatedImage(found, [], size)
            assert image.objects is not None
            for number, shape in enumerate(content["shapes"], 1):
                with given.report.leaving_out(f"{file.name}, shape {number}", image):
                    image.objects.append(_shape(shape, size, given.masks))
            yield image


def _shape(shape: Any, size: tuple[int, int], masks: bool) -> AnnotatedObject:
    if not isinstance(shape, dict) or not isinstance(shape.get("points"), list):
        raise DataError("has no points.")
    kind, label = shape.get("shape_type") or "polygon", shape.get("label")
    points = [numbers(point, 2, "a point") for point in shape["points"]]
    counts = {"rectangle": 2, "circle": 2, "mask": 2}
    if kind not in ("polygon", *counts) or not points:
        raise DataError(f"is a {kind}, expected polygon, rectangle, circle or mask.")
    if len(points) != counts.get(kind, len(points)):
        raise DataError(f"is a {kind} of {len(points)} points, expected {counts[kind]}.")
    if kind == "polygon":
        return outlined_object(label, points, size, masks)
    if kind == "mask":
        return _shape_mask(shape.get("mask"), label, points, size)
    if masks:
        raise DataError(f"is a {kind}, and masks are wanted.")
    (x0, y0), (x1, y1) = points
    if kind == "circle":  # its middle, and a point on its edge
        radius = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        box = pixel_box(y0 - radius, x0 - radius, y0 + radius, x0 + radius, size)
        return AnnotatedObject(label, box)
    return AnnotatedObject(label, outline_box(points, size))


def _shape_mask(
    text: Any, label: Any, points: list[list[float]], size: tuple[int, int]
) -> AnnotatedObject:
    """A PNG of a mask, whose points are the first and the last pixel that it covers."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as picture:
            image_size(picture.height, picture.width)
            part = np.asarray(picture.convert("L")) > 0
    except (OSError, ValueError, TypeError, SyntaxError, binascii.Error) as e:
        raise DataError(f"has a mask that cannot be read ({e}).") from None
    x0, y0 = (round(min(p[i] for p in points)) for i in range(2))
    whole = np.zeros(size, bool)
    area = (
        whole[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] if min(x0, y0) >= 0 else whole[:0]
    )
    if area.shape != part.shape:
        raise DataError("has a mask that leaves the image.")
    area[:] = part
    return AnnotatedObject(label, mask_box(whole), whole)
