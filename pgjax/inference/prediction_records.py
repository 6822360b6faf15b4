"""Answers for images on disk, as JSON records: one image, a folder, a glob, or a JSONL."""

import glob
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from pgjax.data.draw import draw_boxes, draw_masks
from pgjax.errors import UserError
from pgjax.inference.model import Model
from pgjax.inference.objects import DetectedObject

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


def image_files(pattern: str) -> list[pathlib.Path]:
    """The image itself, all images below a folder, or what a glob matches, sorted.

    Raises:
      UserError: nothing there.
    """
    path = pathlib.Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not files:
            raise UserError(f"--image {pattern} holds no image ({', '.join(SUFFIXES)}).")
        return files
    files = sorted(map(pathlib.Path, glob.glob(str(path), recursive=True)))
    if not files:
        raise UserError(f"--image {pattern} does not exist.")
    return files


def records(
    model: Model,
    source: Any,
    *,
    task: str = "answer",
    pictures: pathlib.Path | None = None,
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """Answers every example of a source.

    Args:
      model: from `load`.
      source: with `__len__`, `__getitem__` and `where`, such as `PromptedImages` or JSONL.
      task: `answer`, or `detect` or `segment` to read objects from the answers.
      pictures: folder for the images with their objects drawn; None for none.
      **options: of `Model.answers`.

    Yields:
      `{where, …text keys of the example, prediction, logprob}` in order; `logprob` is the sum
      over the answer's tokens. With objects, also `objects`: label, score and box (y0, x0, y1,
      x1) in pixels.

    Raises:
      UserError: what is missing in the checkpoint or the source.
    """
    looks = task != "answer"
    for meta, answer in model.answers(source, keep_picture=looks, **options):
        index, picture = meta.pop("index"), meta.pop("picture", None)
        record = {
            "where": source.where(index),
            **meta,
            "prediction": answer.text,
            "logprob": round(answer.logprob, 4),
        }
        if looks:
            found = model.objects(answer, picture.shape[:2], masks=task == "segment")
            record["objects"] = [
                {"label": x.label, "score": round(x.score, 4), "box": [round(v, 1) for v in x.box]}
                for x in found
            ]
            if pictures is not None:
                path = pictures / f"{index:06d}_{pathlib.Path(record['where']).stem}.png"
                Image.fromarray(draw_found(picture, found)).save(path)
                record["picture"] = str(path)
        yield record


def draw_found(picture: np.ndarray, found: Sequence[DetectedObject]) -> np.ndarray:
    """Draws objects, with their masks where they have any, on a copy of uint8 [H,W,3]."""
    masks = [x.mask for x in found if x.mask is not None]
    labels = [f"{x.label} {x.score:.0%}" for x in found]
    return draw_boxes(draw_masks(picture, masks), [x.box for x in found], labels)


def as_line(record: dict[str, Any]) -> str:
    """One line of JSON; what JSON cannot hold is written as its repr."""
    return json.dumps(record, ensure_ascii=False, default=repr)
