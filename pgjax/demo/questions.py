"""What a visitor asks, checked: pages and programs may send anything."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from pgjax.errors import UserError
from pgjax.inference.sent_images import MOST_BYTES, check_image

MOST_CHARACTERS = 1000  # of a prompt
MOST_TOKENS = 512  # of an answer
MOST_SEED = 2**31 - 1
SEARCHES = ("beam(4)", "best_of(4)")  # which have no answer before they end
SAMPLERS = ("greedy", "temperature(0.7)", "top_k(40)", "nucleus(0.9)", *SEARCHES)


@dataclasses.dataclass(frozen=True)
class Question:
    """A prompt about an image, and how it is to be answered.

    Attributes:
      image: encoded bytes.
      name: of the image's file.
      prompt: of the checkpoint that is asked; None for the one that it was trained with.
      sampler: one of `SAMPLERS`.
      length: of the longest answer in tokens; None for what suits the prompt.
      seed: of the sampler.
      orient: whether the image is turned as its EXIF orientation says; None for as in training.
    """

    image: bytes
    name: str
    prompt: str | None
    sampler: str = "greedy"
    length: int | None = None
    seed: int = 0
    orient: bool | None = None


def read_question(
    image: Any,
    prompt: Any,
    sampler: Any,
    length: Any,
    seed: Any,
    orient: Any,
    uploads: pathlib.Path,
) -> Question:
    """Checks what was sent.

    Args:
      image: as Gradio sends an uploaded file, a dict with its `path`; None where there is none.
      prompt: a text.
      sampler: one of `SAMPLERS`.
      length: 1 to `MOST_TOKENS`; 0 for what suits the prompt.
      seed: 0 to `MOST_SEED`.
      orient: whether to turn the image.
      uploads: the folder in which files lie that may be read.

    Raises:
      UserError: something that cannot be asked.
    """
    if not isinstance(prompt, str):
        raise UserError(f"prompt is {_short(prompt)}, expected text such as 'caption en'.")
    if len(prompt) > MOST_CHARACTERS:
        raise UserError(
            f"The prompt has {len(prompt):,} characters, at most {MOST_CHARACTERS:,} go."
        )
    if not isinstance(orient, bool):
        raise UserError(f"orient is {_short(orient)}, expected true or false.")
    path = _upload(image, uploads)
    return Question(
        image=_read(path),
        name=path.name,
        prompt=prompt.strip() or None,
        sampler=choice("sampler", sampler, SAMPLERS),
        length=_whole("length", length, 0, MOST_TOKENS) or None,
        seed=_whole("seed", seed, 0, MOST_SEED),
        orient=orient or None,
    )


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Checks that a value is one of a few texts.

    Raises:
      UserError: it is not.
    """
    if isinstance(value, str) and value in choices:
        return value
    raise UserError(f"{name} is {_short(value)}, expected one of {', '.join(choices)}.")


def _upload(image: Any, uploads: pathlib.Path) -> pathlib.Path:
    if image is None:
        raise UserError("There is no image yet: drop one, or click an example.")
    path = image.get("path") if isinstance(image, dict) else None
    if not isinstance(path, str) or "\0" in path:
        raise UserError(f"image is {_short(image)}, expected an uploaded file.")
    file = pathlib.Path(path)
    if not file.resolve().is_relative_to(uploads.resolve()) or not file.is_file():
        raise UserError("The image is no file that was uploaded here, or it has been deleted.")
    return file


def _read(file: pathlib.Path) -> bytes:
    with file.open("rb") as f:
        return check_image(f.read(MOST_BYTES + 1))  # the model may be slow to say what is wrong


def _whole(name: str, value: Any, least: int, most: int) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and value == value // 1 and least <= value <= most:
        return int(value)
    raise UserError(f"{name} is {_short(value)}, expected a whole number, {least} to {most:,}.")


def _short(value: Any) -> str:
    return "null" if value is None else repr(value)[:80]
