"""Objects that a model found in an image, with its confidence in each."""

import dataclasses
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from PIL import Image

from pgjax.data.draw import draw_boxes, draw_masks, object_colors
from pgjax.errors import UserError
from pgjax.inference.images import ImageLike, read_image
from pgjax.inference.mask_rle import encode_mask
from pgjax.text.locations import BINS, Box, parse_boxes
from pgjax.text.noise_boxes import separator_ids
from pgjax.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import supervision  # pyright: ignore[reportMissingImports]

_CRISP = Image.Resampling.NEAREST  # of an enlargement, so that pixels can be told apart
_MIN_SIDE = 256  # pixels of a drawing in a notebook; smaller ones are enlarged by whole numbers


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class DetectedObject:
    """An object in an image.

    Attributes:
      label: what the model calls it.
      box: (y0, x0, y1, x1) in the image's pixels, far edges exclusive.
      score: in 0..1, the geometric mean of the probabilities of the object's tokens; of a model
        that was tuned with noise boxes, the probability of its label.
      mask: bool [H,W] at the image's size; None where only boxes were asked for.
    """

    label: str
    box: tuple[float, float, float, float]
    score: float
    mask: np.ndarray | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DetectedObject):
            return NotImplemented
        same = (self.label, self.box, self.score) == (other.label, other.box, other.score)
        if self.mask is None or other.mask is None:
            return same and self.mask is other.mask
        return same and np.array_equal(self.mask, other.mask)

    def __hash__(self) -> int:
        return hash((self.label, self.box, self.score))

    def __repr__(self) -> str:
        box = ", ".join(f"{v:.1f}" for v in self.box)
        mask = "" if self.mask is None else f", mask of {np.count_nonzero(self.mask):,} pixels"
        return f"DetectedObject({self.label!r}, box=({box}), score={self.score:.3f}{mask})"


class Detections(Sequence[DetectedObject]):
    """The objects in one image, in the order of the answer; notebooks show them drawn.

    Attributes:
      size: height and width of the image in pixels.
      image: the image as it was given, which is read again to draw on; None if unknown.
    """

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # equal to lists, which have no hash

    def __init__(
        self,
        objects: Iterable[DetectedObject],
        size: tuple[int, int],
        image: ImageLike | None = None,
    ) -> None:
        """Keeps the objects of an image; see the attributes."""
        self._objects, self.size, self.image = tuple(objects), size, image

    def __len__(self) -> int:
        """The number of objects."""
        return len(self._objects)

    @overload
    def __getitem__(self, index: int) -> DetectedObject: ...

    @overload
    def __getitem__(self, index: slice) -> "Detections": ...

    def __getitem__(self, index: int | slice) -> "DetectedObject | Detections":
        """One object, or the detections of a slice."""
        if isinstance(index, slice):
            return Detections(self._objects[index], self.size, self.image)
        return self._objects[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections | list | tuple):
            return NotImplemented
        return self._objects == tuple(other)

    def __repr__(self) -> str:
        height, width = self.size
        lines = "".join(f"\n  {found!r}," for found in self)
        return f"Detections({height} x {width} pixels, {len(self)} found: [{lines}\n])"

    def draw(
        self,
        image: ImageLike | None = None,
        *,
        scale: float = 1,
        colors: Sequence[str] | None = None,
    ) -> Image.Image:
        """Draws the boxes with labels and scores, and the masks, each object in a color.

        Args:
          image: to draw on a copy of; None for the one in which the objects were found.
          scale: enlarges or reduces the picture by this factor before boxes are drawn.
          colors: one for each object, such as `#e6194b`; None for colors that stand out.

        Raises:
          UserError: the image is unknown, cannot be read again, or has another size.
        """
        if image is None:
            image = self.image
        if image is None:
            raise UserError("These detections do not know their image; give it to draw().")
        picture = read_image(image)
        if picture.ndim == 4:  # of frames, the first
            picture = picture[0]
        if picture.shape[:2] != tuple(self.size):
            raise UserError(
                f"The image is {picture.shape[0]} x {picture.shape[1]} pixels (height x width), "
                f"expected the {self.size[0]} x {self.size[1]} in which the objects were found."
            )
        if colors is None:
            colors = object_colors(picture, [x.box for x in self])
        picture, masks = Image.fromarray(picture), [x.mask for x in self]
        if scale != 1:
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            picture = picture.resize(size, _CRISP if scale > 1 else Image.Resampling.BICUBIC)
            masks = [x if x is None else _resized(x, size) for x in masks]
        tinted = [(x, c) for x, c in zip(masks, colors, strict=True) if x is not None]
        drawn = np.asarray(picture)
        if tinted:
            drawn = draw_masks(drawn, *zip(*tinted, strict=True))
        boxes = [[v * scale for v in x.box] for x in self]
        labels = [f"{x.label} {x.score:.0%}" for x in self]
        return Image.fromarray(draw_boxes(drawn, boxes, labels, colors))

    def to_records(self) -> list[dict[str, Any]]:
        """Converts to dicts for JSON: label, score and box (y0, x0, y1, x1) in pixels, rounded."""
        return [
            {"label": x.label, "score": round(x.score, 4), "box": [round(v, 1) for v in x.box]}
            for x in self
        ]

    def to_supervision(
        self, categories: Mapping[str, int] | None = None
    ) -> "supervision.Detections":
        """Converts to `supervision.Detections`, with labels under `data["class_name"]`.

        Args:
          categories: the class id by label, so that ids agree between images; objects of other
            labels are left out. None numbers this image's labels in the order of their appearance.

        Raises:
          UserError: supervision is not installed.
        """
        try:
            import supervision  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UserError(
                "to_supervision() needs the package supervision: "
                "pip install 'paligemma-jax[supervision]'."
            ) from None
        if categories is None:
            categories = {label: i for i, label in enumerate(dict.fromkeys(x.label for x in self))}
        kept = [x for x in self if x.label in categories]
        boxes = np.array([x.box for x in kept], np.float32).reshape(-1, 4)
        masks = [x.mask for x in kept if x.mask is not None]
        return supervision.Detections(
            xyxy=boxes[:, [1, 0, 3, 2]],
            mask=np.stack(masks) if masks and len(masks) == len(kept) else None,
            confidence=np.array([x.score for x in kept], np.float32),
            class_id=np.array([categories[x.label] for x in kept], np.int64),
            data={"class_name": np.array([x.label for x in kept], np.str_)},
        )

    def to_coco(
        self, *, image_id: int, categories: Mapping[str, int] | Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Converts to COCO results, which `pycocotools.coco.COCO.loadRes` reads as JSON.

        Args:
          image_id: of the image in the annotations.
          categories: the category's id by label, or the `categories` list of a COCO file. Objects
            of other labels are left out, since a model may name anything.

        Returns:
          A dict per object: `image_id`, `category_id`, `bbox` (x, y, width, height in pixels),
          `score`, and `segmentation` (a compressed RLE, see `encode_mask`) where there are masks.
        """
        if isinstance(categories, Mapping):
            ids: Mapping[str, int] = categories
        else:
            ids = {category["name"]: category["id"] for category in categories}
        results = []
        for found in self:
            if (category := ids.get(found.label)) is None:
                continue
            y0, x0, y1, x1 = found.box
            result = {
                "image_id": image_id,
                "category_id": category,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": found.score,
            }
            if found.mask is not None:
                result["segmentation"] = encode_mask(found.mask)
            results.append(result)
        return results

    def _repr_png_(self) -> bytes | None:
        """The drawing, for notebooks; None, for the text, where the image cannot be drawn on."""
        try:
            picture = self.draw(scale=max(1, _MIN_SIDE // max(self.size)))
        except UserError:
            return None
        data = io.BytesIO()
        picture.save(data, "PNG")
        return data.getvalue()


def _resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize(size, _CRISP))


def scored_boxes(
    tokenizer: Tokenizer,
    tokens: np.ndarray,
    logprobs: np.ndarray,
    *,
    ended: bool = True,
    by_label: bool = False,
) -> list[tuple[Box, float]]:
    """Reads the boxes that an answer's text contains, with their scores.

    Args:
      tokenizer: of the model.
      tokens: int32 [T].
      logprobs: float32 [T], of the tokens.
      ended: whether the text was not cut off; of a text that was, the last object is left out
        unless a `;` follows it, because its label or its mask may be incomplete.
      by_label: whether the score is the probability of the label alone, given the box.

    Returns:
      (box in fractions of the image, score in 0..1) in the order of the text; the score is the
      geometric mean of the probabilities of the box's tokens, or see `by_label`. What does not
      parse is left out.
    """
    first, last = tokenizer.loc_id(0), tokenizer.loc_id(BINS - 1)
    is_loc = (tokens >= first) & (tokens <= last)
    # A box starts at a location token that does not continue other location tokens.
    starts = np.flatnonzero(is_loc & ~np.concatenate([[False], is_loc[:-1]])).tolist()
    found = []
    for start, stop in itertools.pairwise([*starts, len(tokens)]):
        text = tokenizer.decode(tokens[start:stop].tolist())
        if stop == len(tokens) and not ended and not text.rstrip().endswith(";"):
            break
        if by_label:
            own = _label(tokenizer, tokens[start:stop].tolist())
            score = float(np.exp(logprobs[start:stop][own].sum(dtype=np.float64)))
        else:
            score = float(np.exp(logprobs[start:stop].mean(dtype=np.float64)))
        found += [(box, score) for box in parse_boxes(text)]
    return found


def _label(tokenizer: Tokenizer, ids: list[int]) -> slice:
    """Where the label's tokens are among those of a box, four locations first."""
    between, semicolon = separator_ids(tokenizer)
    end = next((i for i, x in enumerate(ids) if x in (between[semicolon], tokenizer.eos_id)), None)
    if (
        end is not None
        and ids[end] != tokenizer.eos_id
        and ids[end - semicolon : end + 1] == (between[: semicolon + 1])
    ):
        end -= semicolon
    return slice(4, end)
