"""Predictions for images on disk as JSON records: one image, a folder, a glob, or a JSONL."""

import glob
import json
import pathlib
from collections.abc import Iterator
from typing import Any, Literal, Unpack

from pgjax.data.sources import Source
from pgjax.errors import UserError
from pgjax.inference.decoding_options import GenerateKwargs, lists_options
from pgjax.inference.model import Model

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")

Task = Literal["answer", "detect", "segment"]  # what is read from the generated text


def image_files(pattern: str) -> list[pathlib.Path]:
    """Lists an image file, all images below a folder, or the files that a glob matches, sorted.

    Raises:
      UserError: there is no such file, or no image in the folder.
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


@lists_options
def records(
    model: Model,
    source: Source,
    *,
    task: Task = "answer",
    pictures: pathlib.Path | None = None,
    **options: Unpack[GenerateKwargs],
) -> Iterator[dict[str, Any]]:
    """Generates text for every example of a data source.

    Args:
      model: from `pgjax.load`.
      source: examples with `image` and maybe `prefix`, such as `PromptedImages` or a JSONL.
      task: `answer` for the text alone; `detect` or `segment` to read objects from it as well.
      pictures: folder for the images with their objects drawn; None for none.
      **options: see `GenerateKwargs`.

    Yields:
      `{where, …text keys of the example, prediction, logprob}` in order; `logprob` is the sum
      over the answer's tokens. With objects, also `objects`: label, score, and box (y0, x0, y1,
      x1) in pixels; and `picture`, the path of the drawn one.

    Raises:
      UserError: an unknown option or value, or an unreadable example.
    """
    reads_objects = task != "answer"
    for meta, answer in model.generate_examples(source, keep_picture=reads_objects, **options):
        index, picture = meta.pop("index"), meta.pop("picture", None)
        record = {
            "where": source.where(index),
            **meta,
            "prediction": answer.text,
            "logprob": round(answer.logprob, 4),
        }
        if picture is not None:
            size = picture.shape[-3:-1]
            found = model.read_detections(answer, size, masks=task == "segment")
            record["objects"] = [
                {"label": x.label, "score": round(x.score, 4), "box": [round(v, 1) for v in x.box]}
                for x in found
            ]
            if pictures is not None:
                path = pictures / f"{index:06d}_{pathlib.Path(record['where']).stem}.png"
                found.draw(picture).save(path)
                record["picture"] = str(path)
        yield record


def as_line(record: dict[str, Any]) -> str:
    """One line of JSON; a value that JSON cannot hold is written as its `repr`."""
    return json.dumps(record, ensure_ascii=False, default=repr)
