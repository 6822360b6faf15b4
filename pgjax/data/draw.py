"""Draws boxes and masks on images, and sheets of images with their prompts and answers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageFont

from pgjax.text.locations import shortened

PALETTE = ("#e6194b", "#0082c8", "#f58231", "#911eb4", "#008080", "#f032e6", "#9a6324", "#3cb44b")
PALETTE += ("#ffe119", "#42d4f4", "#bfef45", "#fabed4")  # for what the others do not stand out from
PAGE, FRAME, INK, SOFT = "#ffffff", "#d0d5dd", "#101828", "#667085"
RIGHT, WRONG = "#067647", "#b42318"
MARGIN, GAP, FONT_SIZE = 16, 6, 14
MIN_WIDTH = 180  # pixels of a sheet's column, so that captions stay readable

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class SheetItem(NamedTuple):
    """One cell of a contact sheet.

    Attributes:
      image: uint8 [H, W, 3].
      prompt: text above the answer.
      answer: the model's.
      expected: the right answer; None where it is not known.
      boxes: [N, 4], (y0, x0, y1, x1) in pixels of the image.
      labels: [N].
      right: whether the answer is right; None compares it with what was expected, which is too
        strict for boxes.
    """

    image: np.ndarray
    prompt: str
    answer: str
    expected: str | None = None
    boxes: Sequence[Sequence[float]] = ()
    labels: Sequence[str] = ()
    right: bool | None = None


def draw_boxes(
    image: UInt8[np.ndarray, "h w 3"],
    boxes: Sequence[Sequence[float]],
    labels: Sequence[str],
    colors: Sequence[str] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws boxes with their labels on a copy of the image.

    Args:
      image: uint8 [H, W, 3].
      boxes: [N, 4], (y0, x0, y1, x1) in pixels, far edges exclusive; they may reach outside.
      labels: [N]; an empty label draws no tag.
      colors: [N] names or `#rrggbb`; None for one color per distinct label.

    Returns:
      uint8 [H, W, 3].
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    font_size = max(
        FONT_SIZE, round(min(picture.size) / 40)
    )  # legible when a photograph is reduced
    font = ImageFont.load_default(font_size)
    if colors is None:
        names = list(dict.fromkeys(labels))
        colors = [PALETTE[names.index(label) % len(PALETTE)] for label in labels]
    line = max(1, round(min(picture.size) / 100))
    for (y0, x0, y1, x1), label, color in zip(boxes, labels, colors, strict=True):
        # Pillow requires corners in order.
        (x0, x1), (y0, y1) = sorted((x0, x1)), sorted((y0, y1))
        x1, y1 = max(x0, x1 - 1), max(y0, y1 - 1)
        draw.rectangle((x0, y0, x1, y1), outline=color, width=line)
        if label := _printable(label):
            width, height = font.getlength(label) + 6, font_size + 4
            left = max(0, min(x0, picture.width - width))
            top = y0 - height if y0 >= height else min(y0, picture.height - height)
            draw.rectangle((left, top, left + width, top + height), fill=color)
            draw.text((left + 3, top + height / 2), label, ink_on(color), font, anchor="lm")
    return np.asarray(picture)


def draw_masks(
    image: UInt8[np.ndarray, "h w 3"],
    masks: Sequence[Bool[np.ndarray, "h w"]],
    colors: Sequence[str] = PALETTE,
) -> UInt8[np.ndarray, "h w 3"]:
    """Tints a copy of an image inside of masks, and draws their outlines.

    Args:
      image: uint8 [H, W, 3].
      masks: [N] of bool [H, W].
      colors: names or `#rrggbb`, in turn.

    Returns:
      uint8 [H, W, 3].
    """
    picture = image.copy()
    line = max(1, round(min(image.shape[:2]) / 200))
    for i, mask in enumerate(masks):
        tint = np.array(ImageColor.getrgb(colors[i % len(colors)]), np.uint16)
        picture[mask] = (picture[mask] + tint) // 2
        inside = Image.fromarray(mask).convert("L").filter(ImageFilter.MinFilter(2 * line + 1))
        picture[mask & (np.asarray(inside) == 0)] = tint
    return picture


def object_colors(image: UInt8[np.ndarray, "h w 3"], boxes: Sequence[Sequence[float]]) -> list[str]:
    """Chooses the color of the palette that stands out most from what a box's frame covers.

    Args:
      image: uint8 [H, W, 3].
      boxes: [N, 4], (y0, x0, y1, x1) in pixels; they may reach outside.

    Returns:
      [N] colors; none is taken twice before all are taken once.
    """
    palette = np.array([ImageColor.getrgb(color) for color in PALETTE], np.float32)
    taken, order = np.zeros(len(PALETTE), int), []
    for y0, x0, y1, x1 in boxes:
        ys, xs = (np.linspace(low, high - 1, 32) for low, high in ((y0, y1), (x0, x1)))
        rows = np.concatenate([ys, ys, np.full(32, ys[0]), np.full(32, ys[-1])])
        columns = np.concatenate([np.full(32, xs[0]), np.full(32, xs[-1]), xs, xs])
        beneath = image[
            rows.clip(0, image.shape[0] - 1).astype(int),
            columns.clip(0, image.shape[1] - 1).astype(int),
        ].astype(np.float32)
        distance = np.linalg.norm(beneath[:, None] - palette[None], axis=-1)
        contrast = np.percentile(distance, 20, axis=0)
        contrast[taken > taken.min()] = -1
        taken[contrast.argmax()] += 1
        order.append(int(contrast.argmax()))
    return [PALETTE[i] for i in order]


def ink_on(color: str) -> str:
    """Black or white, whichever has more contrast (WCAG 2) on a color, a name or `#rrggbb`."""
    red, green, blue = ((v / 255) ** 2.2 for v in ImageColor.getrgb(color)[:3])
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "white"


def contact_sheet(items: Sequence[SheetItem], columns: int, scale: int) -> Image.Image:
    """Lays out images with their boxes, and prompt, answer and expected answer beneath.

    Args:
      items: at least one.
      columns: number of columns.
      scale: whole number by which the images are enlarged.

    Returns:
      An RGB picture. Answers are green if right and red if wrong; the expected answer is written
      where it differs.
    """
    cells = [_cell(item, scale) for item in items]
    width = max(cell.width for cell in cells)
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    across = min(columns, len(cells))
    sheet = Image.new(
        "RGB",
        (MARGIN + across * (width + MARGIN), MARGIN + sum(heights) + MARGIN * len(rows)),
        PAGE,
    )
    top = MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            sheet.paste(cell, (MARGIN + column * (width + MARGIN), top))
        top += height + MARGIN
    return sheet


def _cell(item: SheetItem, scale: int) -> Image.Image:
    """Draws one item."""
    height, width = item.image.shape[:2]
    picture = Image.fromarray(item.image)
    picture = picture.resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    boxes = [[v * scale for v in box] for box in item.boxes]
    picture = Image.fromarray(draw_boxes(np.asarray(picture), boxes, item.labels))

    right = item.right
    if right is None and item.expected is not None:
        right = item.answer.strip() == item.expected.strip()
    paragraphs = [
        (item.prompt, INK),
        (item.answer or "(no answer)", SOFT if right is None else RIGHT if right else WRONG),
    ]
    if item.expected not in (None, item.answer):
        paragraphs.append((f"expected: {item.expected}", SOFT))

    font = ImageFont.load_default(FONT_SIZE)
    width = max(picture.width, MIN_WIDTH)
    lines = [(line, color) for text, color in paragraphs for line in _wrap(text, font, width)]
    step = FONT_SIZE + 4
    cell = Image.new("RGB", (width, picture.height + GAP + step * len(lines)), PAGE)
    cell.paste(picture)
    draw = ImageDraw.Draw(cell)
    draw.rectangle((0, 0, picture.width - 1, picture.height - 1), outline=FRAME)
    for i, (line, color) in enumerate(lines):
        draw.text((0, picture.height + GAP + step * (i + 0.5)), line, color, font, anchor="lm")
    return cell


def _wrap(text: str, font: _Font, width: int) -> list[str]:
    """Breaks text into lines of at most `width` pixels, inside words where necessary."""
    text = _printable(shortened(text))
    lines, line = [], ""
    for word in text.split():
        if font.getlength(f"{line} {word}".strip()) <= width:
            line = f"{line} {word}".strip()
            continue
        if line:
            lines.append(line)
        line = ""
        for letter in word:
            if line and font.getlength(line + letter) > width:
                lines.append(line)
                line = ""
            line += letter
    return [*lines, line] if line else lines


def _printable(text: str) -> str:
    """Replaces control characters and lone surrogates, which fonts cannot draw, by spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()
