"""Drawn scenes with questions about them, as many as wanted, made exactly as they are read.

A scene is one to four coloured shapes on a background. Shapes lie on a grid of 32 × 32 cells, at
least one cell from the border and from each other. So every edge of a box is a whole pixel, for
image sizes that are multiples of 32, and exactly one token `<locYYYY>`, a multiple of 32.

There are two styles and two wordings, so that a tiny model can be pretrained on one kind of scene
and fine-tuned on another: `plain` with `pt` (terse prompts such as `color of square`), and `rich`
(textures, gradients, noise) with `quickstart` (`answer en what color is the square?`).
"""

import dataclasses
import functools
import itertools
import operator
import zlib
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any, TypeVar

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw

from pgjax.errors import UserError
from pgjax.registry import SOURCES
from pgjax.schema import Rule
from pgjax.text.locations import format_boxes

CELLS = 32
SUPERSAMPLE = 4

T = TypeVar("T")
Rng = np.random.Generator
# Words of the prompt, the answer, and the shapes whose boxes are the answer.
Question = tuple[dict[str, str], Any, list["Shape"]]

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 38, 40),
    "orange": (247, 138, 24),
    "yellow": (248, 228, 62),
    "green": (44, 164, 60),
    "cyan": (72, 214, 226),
    "blue": (40, 84, 220),
    "purple": (128, 48, 172),
    "pink": (252, 152, 204),
}

# The corners of each kind, (x, y) in 0..1 of its bounding box; a circle has none.
OUTLINES: dict[str, tuple[tuple[float, float], ...] | None] = {
    "circle": None,
    "square": ((0, 0), (1, 0), (1, 1), (0, 1)),
    "triangle": ((0.5, 0), (1, 1), (0, 1)),
    "cross": tuple(
        zip(
            (0.35, 0.65, 0.65, 1, 1, 0.65, 0.65, 0.35, 0.35, 0, 0, 0.35),
            (0, 0, 0.35, 0.35, 0.65, 0.65, 1, 1, 0.65, 0.65, 0.35, 0.35),
            strict=True,
        )
    ),
}

# The codes of each kind's mask in the packaged codec (tools/train_mask_codec.py prints them).
OUTLINE_CODES = {
    "circle": (76, 93, 107, 67, 73, 120, 120, 108, 18, 120, 120, 46, 89, 0, 111, 37),
    "square": (79, 79, 79, 87, 70, 120, 120, 87, 70, 120, 120, 87, 70, 115, 115, 115),
    "triangle": (8, 55, 22, 8, 31, 100, 66, 1, 55, 127, 97, 22, 100, 115, 115, 103),
    "cross": (23, 14, 52, 51, 118, 15, 103, 118, 117, 126, 26, 81, 83, 27, 112, 1),
}

# The side lengths, in cells, that each word means.
SIDES = {"small": (7, 8, 9), "large": (13, 14, 15)}

STYLES = ("plain", "rich")

WORDINGS = {
    "pt": {
        "caption": "caption",
        "count": "count {kind}",
        "color": "color of {kind}",
        "shape": "shape of {color}",
        "size": "size of {color} {kind}",
        "where": "where {color} {kind}",
        "exists": "exists {color} {kind}",
        "detect": "detect {color} {kind}",
        "detect_all": "detect {kind}",
        "segment": "segment {color} {kind}",
    },
    "quickstart": {
        "caption": "caption en",
        "count": "answer en how many {kinds} are there?",
        "color": "answer en what color is the {kind}?",
        "shape": "answer en what shape is {color}?",
        "size": "answer en what size is the {color} {kind}?",
        "where": "answer en where is the {color} {kind}?",
        "exists": "answer en is there any {color} {kind}?",
        "detect": "detect {color} {kind}",
        "detect_all": "detect {kind}",
        "segment": "segment {color} {kind}",
    },
}


@dataclasses.dataclass(frozen=True)
class Shape:
    """A shape; `box` is (y0, x0, y1, x1) in cells, far edges exclusive."""

    kind: str
    color: str
    size: str
    box: tuple[int, int, int, int]

    @property
    def center(self) -> tuple[float, float]:
        """The middle of the box, (y, x) in cells."""
        y0, x0, y1, x1 = self.box
        return (y0 + y1) / 2, (x0 + x1) / 2


@SOURCES.register("scenes")
@dataclasses.dataclass(frozen=True)
class SceneSource:
    """Random access to scenes: example `i` is a pure function of (seed, split, i).

    Args:
      split: any name; different names give different scenes.
      size: height and width of the images in pixels, a multiple of 32.
      seed: other seeds give other scenes.
      num_examples: number of examples.
      tasks: keys of `TASKS`, which are asked in turn: example `i` asks `tasks[i % len(tasks)]`, and
        a name that is repeated is asked more often.
      style: `plain` or `rich`.
      wording: `pt` or `quickstart`.
      max_shapes: the most shapes in a scene, 1 to 4.

    Raises:
      UserError: a value that is not one of the above.
    """

    split: str = "train"
    size: Annotated[int, Rule(at_least=CELLS)] = 64
    seed: Annotated[int, Rule(at_least=0)] = 0
    num_examples: Annotated[int, Rule(at_least=0)] = 10_000
    tasks: Sequence[str] = ("caption", "count", "color", "detect")
    style: Annotated[str, Rule(choices=STYLES)] = "rich"
    wording: Annotated[str, Rule(choices=tuple(WORDINGS))] = "quickstart"
    max_shapes: Annotated[int, Rule(at_least=1, at_most=4)] = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self.tasks))
        _check("style", [self.style], STYLES)
        _check("wording", [self.wording], WORDINGS)
        _check("task", self.tasks, TASKS)
        if not self.tasks:
            raise UserError(f"Scenes: tasks is empty, expected some of {', '.join(TASKS)}.")
        if self.size <= 0 or self.size % CELLS:
            raise UserError(
                f"Scenes: size is {self.size}, expected a positive multiple of {CELLS}."
            )
        if not 1 <= self.max_shapes <= 4:
            raise UserError(f"Scenes: max_shapes is {self.max_shapes}, expected 1 to 4.")
        if self.seed < 0 or self.num_examples < 0:
            raise UserError(
                f"Scenes: seed is {self.seed} and num_examples {self.num_examples}, expected at "
                "least 0."
            )

    def __len__(self) -> int:
        return self.num_examples

    def where(self, i: int) -> str:
        """Returns the example's name for messages, such as `scenes/train:17`."""
        return f"scenes/{self.split}:{i}"

    def __getitem__(self, i: int) -> dict[str, Any]:
        """Draws example `i`.

        Returns:
          `image` uint8 [size, size, 3]; `prefix`, `suffix`, `task` and `id`, texts; `answers`, a
          list of the suffix; `boxes`, a list of N lists (y0, x0, y1, x1) in 0..1, and `labels`, a
          list of N texts, both empty for tasks that do not ask for boxes.

        Raises:
          IndexError: `i` outside 0 … len - 1.
        """
        return self.draw(i)[0]

    def draw(self, i: int) -> tuple[dict[str, Any], list[Shape]]:
        """Returns example `i`, as indexing does, and all shapes of its scene from left to right."""
        i = operator.index(i)
        if not 0 <= i < self.num_examples:
            raise IndexError(f"{self.where(i)} of {self.num_examples} examples.")
        rng = np.random.default_rng([self.seed, zlib.crc32(self.split.encode()), i])
        task = self.tasks[i % len(self.tasks)]

        background, colors = _background(rng, self.size, self.style)
        while True:
            shapes = _shapes(rng, colors, self.max_shapes)
            if question := TASKS[task](rng, shapes):  # some scenes do not allow it
                break
        words, answer, targets = question

        kind = words.get("kind", "")
        prefix = WORDINGS[self.wording][task].format(**words, kinds=_plural(kind))
        boxes = [[v / CELLS for v in shape.box] for shape in targets]
        labels = [prefix.partition(" ")[2]] * len(targets)
        codes = [OUTLINE_CODES[shape.kind] for shape in targets] if task == "segment" else None
        if task == "caption":
            suffix = _caption(answer, self.wording)
        else:
            suffix = format_boxes(boxes, labels, codes) if targets else answer
        example = {
            "image": _render(rng, background, shapes, self.style),
            "prefix": prefix,
            "suffix": suffix,
            "answers": [suffix],
            "boxes": boxes,
            "labels": labels,
            "task": task,
            "id": self.where(i),
        }
        return example, shapes


# ------------------------------------------------------------------------------------ questions
# Each takes a generator and the shapes from left to right. It returns a `Question`, or None where
# the scene does not allow one.


def _ask_caption(rng: Rng, shapes: list[Shape]) -> Question | None:
    xs = [shape.center[1] for shape in shapes]
    if any(b - a < 2 for a, b in itertools.pairwise(xs)):  # it is not clear which is further left
        return None
    return {}, shapes, []


def _ask_count(rng: Rng, shapes: list[Shape]) -> Question | None:
    if rng.random() < 0.2:
        return {"kind": "shape"}, str(len(shapes)), []
    present = sorted({shape.kind for shape in shapes})
    kind = _pick(rng, list(OUTLINES) if rng.random() < 0.2 else present)
    return {"kind": kind}, str(sum(shape.kind == kind for shape in shapes)), []


def _ask_color(rng: Rng, shapes: list[Shape]) -> Question | None:
    kinds = [shape.kind for shape in shapes]
    shape = _pick_any(rng, [shape for shape in shapes if kinds.count(shape.kind) == 1])
    return shape and ({"kind": shape.kind}, shape.color, [])


def _ask_shape(rng: Rng, shapes: list[Shape]) -> Question | None:
    colors = [shape.color for shape in shapes]
    shape = _pick_any(rng, [shape for shape in shapes if colors.count(shape.color) == 1])
    return shape and ({"color": shape.color}, shape.kind, [])


def _ask_size(rng: Rng, shapes: list[Shape]) -> Question | None:
    shape = _pick_any(rng, _unique(shapes))
    return shape and ({"color": shape.color, "kind": shape.kind}, shape.size, [])


def _ask_where(rng: Rng, shapes: list[Shape]) -> Question | None:
    """Asks for the side of the image that a shape is nearest to, if that is clear."""
    shape = _pick_any(rng, _unique(shapes))
    if shape is None:
        return None
    dy, dx = (v - CELLS / 2 for v in shape.center)
    if max(abs(dy), abs(dx)) < 4 or abs(abs(dy) - abs(dx)) < 2:
        return None
    sides, offset = (("left", "right"), dx) if abs(dx) > abs(dy) else (("top", "bottom"), dy)
    return {"color": shape.color, "kind": shape.kind}, sides[int(offset > 0)], []


def _ask_exists(rng: Rng, shapes: list[Shape]) -> Question | None:
    """Asks for yes and no equally often; half of the no's mix a colour and a kind of the scene."""
    present = {(shape.color, shape.kind) for shape in shapes}
    absent = [(c, k) for c in COLORS for k in OUTLINES if (c, k) not in present]
    mixed = [(c, k) for c, _ in present for _, k in present if (c, k) in absent]
    yes = rng.random() < 0.5
    near = bool(mixed) and rng.random() < 0.5
    color, kind = _pick(rng, sorted(present if yes else mixed if near else absent))
    return {"color": color, "kind": kind}, "yes" if yes else "no", []


def _ask_detect(rng: Rng, shapes: list[Shape]) -> Question | None:
    shape = _pick_any(rng, _unique(shapes))
    return shape and ({"color": shape.color, "kind": shape.kind}, "", [shape])


def _ask_detect_all(rng: Rng, shapes: list[Shape]) -> Question | None:
    kind = _pick(rng, shapes).kind
    return {"kind": kind}, "", [shape for shape in shapes if shape.kind == kind]


TASKS: dict[str, Callable[[Rng, list[Shape]], Question | None]] = {
    "caption": _ask_caption,
    "count": _ask_count,
    "color": _ask_color,
    "shape": _ask_shape,
    "size": _ask_size,
    "where": _ask_where,
    "exists": _ask_exists,
    "detect": _ask_detect,
    "detect_all": _ask_detect_all,
    "segment": _ask_detect,
}


def _unique(shapes: list[Shape]) -> list[Shape]:
    """The shapes that share their colour and kind with no other."""
    names = [(shape.color, shape.kind) for shape in shapes]
    return [shape for shape, name in zip(shapes, names, strict=True) if names.count(name) == 1]


def _caption(shapes: list[Shape], wording: str) -> str:
    names = [f"{shape.size} {shape.color} {shape.kind}" for shape in shapes]
    if wording == "pt":
        return ", ".join(names)
    *first, last = [f"a {name}" for name in names]
    return f"{', '.join(first)} and {last}" if first else last


def _plural(kind: str) -> str:
    return kind + ("es" if kind.endswith("s") else "s")


# -------------------------------------------------------------------------------------- drawing


def _shapes(rng: Rng, colors: list[str], max_shapes: int) -> list[Shape]:
    """Draws 1 to `max_shapes` shapes that do not touch; returns them from left to right."""
    shapes: list[Shape] = []
    for _ in range(rng.integers(1, max_shapes, endpoint=True)):
        # Kinds are repeated, so that there is something to count.
        repeat = bool(shapes) and rng.random() < 0.4
        kind = shapes[-1].kind if repeat else _pick(rng, list(OUTLINES))
        size = _pick(rng, list(SIDES))
        side = _pick(rng, SIDES[size])
        for y0, x0 in rng.integers(1, CELLS - side, size=(20, 2)).tolist():
            box = (y0, x0, y0 + side, x0 + side)
            if all(_apart(box, other.box) for other in shapes):
                shapes.append(Shape(kind, _pick(rng, colors), size, box))
                break
    return sorted(shapes, key=lambda shape: shape.center[::-1])


def _apart(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether a free cell separates two boxes."""
    return a[0] > b[2] or b[0] > a[2] or a[1] > b[3] or b[1] > a[3]


def _background(rng: Rng, size: int, style: str) -> tuple[Float32[np.ndarray, "h w 3"], list[str]]:
    """Draws a background; returns it with the names of the colours that stand out on it."""
    if style == "plain":
        level = rng.uniform(15, 50) if rng.random() < 0.5 else rng.uniform(205, 240)
        tones = (level + rng.uniform(-8, 8, size=(1, 3))).astype(np.float32)
        image = np.broadcast_to(tones[0], (size, size, 3))
    else:
        level = rng.uniform(25, 215)
        tones = level + rng.uniform(-40, 40, size=(2, 1)) + rng.uniform(-18, 18, size=(2, 3))
        tones = np.clip(tones, 0, 255).astype(np.float32)
        image = tones[0] + _texture(rng, size)[..., None] * (tones[1] - tones[0])
    distance = np.linalg.norm(tones[:, None] - np.array(list(COLORS.values())), axis=-1).min(0)
    return image, [name for name, d in zip(COLORS, distance, strict=True) if d > 85]


def _texture(rng: Rng, size: int) -> Float32[np.ndarray, "{size} {size}"]:
    """Draws a pattern of values in 0..1: flat, a gradient, stripes, or blotches."""
    pattern = rng.integers(4)
    if pattern == 0:
        return np.zeros((size, size), np.float32)
    if pattern == 1:
        cells = rng.random((8, 8), dtype=np.float32)
        return np.asarray(Image.fromarray(cells).resize((size, size), Image.Resampling.BILINEAR))
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    ramp = np.float32(np.sin(angle)) * ramp[:, None] + np.float32(np.cos(angle)) * ramp
    if pattern == 2:
        return ramp / np.float32(2**0.5) + np.float32(0.5)
    return (np.floor(ramp * np.float32(rng.uniform(5, 14))) % 2).astype(np.float32)


def _render(
    rng: Rng, background: Float32[np.ndarray, "h w 3"], shapes: list[Shape], style: str
) -> UInt8[np.ndarray, "h w 3"]:
    """Paints the shapes on the background."""
    image = background.copy()
    pixels = len(image) // CELLS
    for shape in shapes:
        y0, x0, y1, x1 = (v * pixels for v in shape.box)
        color = np.array(COLORS[shape.color], np.float32)
        if style == "rich":
            color += rng.uniform(-14, 14, size=3).astype(np.float32)
        patch = image[y0:y1, x0:x1]
        patch += coverage(shape.kind, y1 - y0) * (color - patch)
    if style == "rich":
        grain = int(rng.integers(1, 14))
        image += rng.integers(-grain, grain, size=image.shape, dtype=np.int8, endpoint=True)
    return (np.clip(image, 0, 255) + 0.5).astype(np.uint8)


@functools.lru_cache(maxsize=1024)
def coverage(kind: str, side: int) -> Float32[np.ndarray, "{side} {side} 1"]:
    """Returns how much of each pixel, in 0..1, a shape of `side` pixels covers."""
    canvas = Image.new("L", (side * SUPERSAMPLE, side * SUPERSAMPLE))
    draw = ImageDraw.Draw(canvas)
    last = side * SUPERSAMPLE - 1
    corners = OUTLINES[kind]
    if corners is None:
        draw.ellipse((0, 0, last, last), fill=255)
    else:
        draw.polygon([(x * last, y * last) for x, y in corners], fill=255)
    coverage = np.asarray(canvas.reduce(SUPERSAMPLE), np.float32)[..., None] / 255
    coverage.flags.writeable = False  # the cache gives it to every caller
    return coverage


def _pick(rng: Rng, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]


def _pick_any(rng: Rng, items: Sequence[T]) -> T | None:
    """One of the items, or None where there are none."""
    return _pick(rng, items) if items else None


def _check(what: str, names: Sequence[str], choices: Collection[str]) -> None:
    for name in names:
        if name not in choices:
            raise UserError(
                f"Scenes: {what} {name!r} is unknown, expected one of {', '.join(choices)}."
            )
