"""Predictions for images on disk as JSON records: one image, a folder, a glob, or a JSONL."""

import glob
import pathlib
from collections.abc import Container, Iterator
from typing import Any, Literal, Unpack

from pgjax.data.sources import Source
from pgjax.errors import UserError, note
from pgjax.inference.decoding_options import GenerateKwargs, lists_options
from pgjax.inference.model import Model

# What folders are searched for. A file that cannot be decoded is reported when it is its turn.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".avif", ".heic", ".heif"),
)

Task = Literal["answer", "detect", "segment"]  # what is read from the generated text


def image_files(pattern: str) -> list[pathlib.Path]:
    """Lists an image file, all images below a folder, or the files that a glob matches, sorted.

    Folders, links to files that do not exist, and the `._` files that macOS writes are left out,
    and counted in a note.

    Raises:
      UserError: there is no such file, or no image in the folder.
    """
    path = pathlib.Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        files = _usable([p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES])
        if not files:
            raise UserError(f"--image {pattern} holds no image ({', '.join(SUFFIXES)}).")
        return files
    found = [pathlib.Path(name) for name in glob.glob(str(path), recursive=True)]
    if not found:
        raise UserError(f"--image {pattern} does not exist.")
    files = _usable(found)
    if not files:
        raise UserError(f"--image {pattern} matches {len(found)} names, of which none is a file.")
    return files


def _usable(paths: list[pathlib.Path]) -> list[pathlib.Path]:
    """The files among the paths, sorted; a note says what the others are."""
    left_out: dict[str, list[pathlib.Path]] = {}
    files = []
    for path in sorted(paths):
        if path.is_dir():
            left_out.setdefault("folders", []).append(path)
        elif path.name.startswith("._"):
            left_out.setdefault("files of macOS that hold no image", []).append(path)
        elif not path.is_file():
            left_out.setdefault("links to files that do not exist", []).append(path)
        else:
            files.append(path)
    for what, some in left_out.items():
        note(f"{len(some)} {what} are left out, such as {some[0]}.")
    return files


@lists_options
def records(
    model: Model,
    source: Source,
    *,
    task: Task = "answer",
    pictures: pathlib.Path | None = None,
    done: Container[int] = (),
    on_bad_example: str = "raise",
    **options: Unpack[GenerateKwargs],
) -> Iterator[dict[str, Any]]:
    """Generates text for every example of a data source.

    Args:
      model: from `pgjax.load`.
      source: examples with `image` and maybe `prefix`, such as `PromptedImages` or a JSONL.
      task: `answer` for the text alone; `detect` or `segment` to read objects from it as well.
      pictures: folder for the images with their objects drawn; None for none.
      done: indices of examples to leave out.
      on_bad_example: `raise`, or `skip`, which leaves bad examples out and says how many.
      **options: see `GenerateKwargs`.

    Yields:
      `{index, where, …text keys of the example, prediction, ended, logprob}` in order; `ended` is
      false where `max_new_tokens` cut the answer off, and `logprob` is the sum over its tokens.
      With objects, also `objects`: label, score, and box (y0, x0, y1, x1) in pixels; and `picture`,
      the path of the drawn one.

    Raises:
      UserError: an unknown option or value, or an unreadable example.
    """
    reads_objects = task != "answer"
    for meta, answer in model.generate_examples(
        source,
        keep_picture=reads_objects,
        done=done,
        on_bad_example=on_bad_example,
        **options,
    ):
        index, picture = meta.pop("index"), meta.pop("picture", None)
        record = {
            "index": index,
            "where": source.where(index),
            **meta,
            "prediction": answer.text,
            "ended": answer.ended,
            "logprob": round(answer.logprob, 4),
        }
        if picture is not None:
            size = picture.shape[-3:-1]
            found = model.read_detections(answer, size, masks=task == "segment")
            record["objects"] = found.to_records()
            if pictures is not None:
                path = pictures / f"{index:06d}_{pathlib.Path(record['where']).stem}.png"
                found.draw(picture).save(path)
                record["picture"] = str(path)
        yield record
