"""What every reader of annotations yields, and what it reports."""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from pgjax.data.source_files import IMAGE_SUFFIXES
from pgjax.errors import DataError, UserError

_NOT_AS_EXPECTED = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip

Box = tuple[float, float, float, float]


class AnnotatedObject(NamedTuple):
    """An object in an image.

    Attributes:
      label: its name, as the annotations have it.
      box: (y0, x0, y1, x1) as fractions of the annotated image's height and width.
      mask: bool [H, W] at the annotated image's size; None where only the box is known.
    """

    label: Any
    box: Box
    mask: np.ndarray | None = None


@dataclasses.dataclass
class AnnotatedImage:
    """An image with what is known about it.

    Attributes:
      file: path, relative to the folder of the images.
      objects: what is in it; None if the source does not say.
      size: (height, width) for which the annotations were made, in pixels; None if unknown.
      texts: examples that the source already holds as text: `prefix`, `suffix` and other keys.
      data: the encoded image, where the source holds it and there is no file yet.
      complete: whether `objects` are all that the source names; other labels are then known to be
        absent from the image.
    """

    file: str
    objects: list[AnnotatedObject] | None = None
    size: tuple[int, int] | None = None
    texts: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    data: bytes | None = None
    complete: bool = True


class Report:
    """What an import left out, what it changed, and what it counted.

    Attributes:
      left_out: a sentence for each thing, with its place and the reason.
      notes: sentences about what was changed or is doubtful, with how often.
    """

    def __init__(self) -> None:
        """Begins an empty report."""
        self.left_out: list[str] = []
        self.notes: dict[str, list[str]] = {}

    @contextlib.contextmanager
    def leaving_out(self, where: str, image: AnnotatedImage | None = None) -> Iterator[None]:
        """Lists what is wrong with data, instead of raising it; `image` is then not complete."""
        try:
            yield
            return
        except DataError as e:
            self.left_out.append(f"{where}: {e}")
        except _NOT_AS_EXPECTED as e:  # readers take it that values are of the format's kinds
            reason = f"{type(e).__name__}: {str(e)[:200]}"
            self.left_out.append(f"{where}: is not as the format has it ({reason}).")
        if image is not None:
            image.complete = False

    def note(self, what: str, where: str) -> None:
        """Adds a place to those at which the same thing happened."""
        self.notes.setdefault(what, []).append(where)

    def noted(self) -> Iterator[str]:
        """Yields a sentence for each kind of note."""
        for what, places in self.notes.items():
            few = ", ".join(dict.fromkeys(places[:3]))
            yield f"{len(places)} × {what} ({few}{', …' if len(places) > 3 else ''})"


@dataclasses.dataclass(frozen=True)
class Import:
    """What a reader is given.

    Attributes:
      source: the file or folder that was named.
      images: folder that image paths are relative to.
      masks: whether masks are wanted as well as boxes.
      split: of a source that has several, such as train or val.
      report: gets what is left out.
    """

    source: pathlib.Path
    images: pathlib.Path
    masks: bool
    split: str
    report: Report

    def find_image(self, *names: str) -> str:
        """Returns the first of several names that is a file, as a path relative to `images`.

        A name may be a path of another machine, with `/` or `\\`: the longest end of it that exists
        counts. A name without a suffix also finds the image of that stem.

        Raises:
          DataError: there is none.
        """
        for name in names:
            parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
            if ".." in parts or name.startswith("/"):
                parts = parts[-1:] if not parts or parts[-1] != ".." else []
            for start in range(len(parts)):
                path = "/".join(parts[start:])
                if found := self._existing(path):
                    return found
        raise DataError(f"there is no image {names[0]!r} in {self.images}.")

    def _existing(self, path: str) -> str | None:
        try:
            if (self.images / path).is_file():
                return path
            if not pathlib.PurePosixPath(path).suffix:
                for suffix in IMAGE_SUFFIXES:
                    if (self.images / (path + suffix)).is_file():
                        return path + suffix
        except (OSError, ValueError):  # too long, or a NUL
            pass
        return None


def numbers(values: Any, count: int, what: str) -> list[float]:
    """Returns finite numbers as they are, or raises a DataError that says what was expected."""
    if isinstance(values, Sequence) and not isinstance(values, str) and len(values) == count:
        try:
            found = [float(v) for v in values]
        except (TypeError, ValueError, OverflowError):
            found = []
        if found and all(map(math.isfinite, found)):
            return found
    raise DataError(f"{what} is {str(values)[:100]}, expected {count} finite numbers.")


def pixel_box(y0: float, x0: float, y1: float, x1: float, size: tuple[int, int]) -> Box:
    """Returns a box in pixels, clipped to the image, as fractions.

    Raises:
      DataError: it has no area inside the image.
    """
    height, width = size
    top, bottom = (min(max(v / height, 0.0), 1.0) for v in (y0, y1))
    left, right = (min(max(v / width, 0.0), 1.0) for v in (x0, x1))
    if not (top < bottom and left < right):
        raise DataError(
            f"the box x {x0:g}…{x1:g}, y {y0:g}…{y1:g} has no area inside the image of "
            f"{width}x{height}."
        )
    return top, left, bottom, right


def outline_box(points: Sequence[Sequence[float]], size: tuple[int, int]) -> Box:
    """Returns the box around points (x, y) in pixels, as `pixel_box` does."""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    return pixel_box(min(ys), min(xs), max(ys), max(xs), size)


def image_size(height: Any, width: Any) -> tuple[int, int]:
    """Returns the height and width that annotations state, as whole numbers.

    Raises:
      DataError: they are none, or too large for any image that can be decoded.
    """
    from pgjax.data.decode import MAX_PIXELS

    try:
        size = (int(float(height)), int(float(width)))
    except (TypeError, ValueError, OverflowError):
        size = (0, 0)
    if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
        raise DataError(
            f"the annotations say height {height!r:.40} and width {width!r:.40}, expected numbers "
            f"of pixels, {MAX_PIXELS:,} at most in all."
        )
    return size


def read_text(path: pathlib.Path) -> str:
    """Reads a text file in UTF-8 or, by its byte order mark, UTF-16.

    Raises:
      UserError: it cannot be read.
    """
    try:
        data = path.read_bytes()
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        return data.decode(encoding)
    except (OSError, UnicodeError) as e:
        raise UserError(f"{path} cannot be read as text: {e}.") from None
