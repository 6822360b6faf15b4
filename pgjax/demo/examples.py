"""Images with prompts to begin with, for each kind of checkpoint: what it was trained on."""

import io
import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pgjax.checkpoints import released
from pgjax.data.decode import as_rgb, decode_image
from pgjax.data.pipeline import Pipeline
from pgjax.data.scenes import SceneSource
from pgjax.data.sources import make_source
from pgjax.demo.tasks import Tasks, tasks_of
from pgjax.errors import UserError, note
from pgjax.loading.run_directory import is_run, read_run

_COUNT = 6  # examples of a run
_SCENE_TASKS = ("caption", "detect", "segment", "count", "color", "detect_all")
_PHOTOS = pathlib.Path(__file__).parent / "photos"
_SIDE = 256  # pixels that drawn scenes are enlarged to
# By task: a picture and the text.
_ASKED = {
    "caption": (("china.jpg", ""),),
    "question": (
        ("flower.jpg", "what color is the flower?"),
        ("sign.png", "when does the shop open on Sundays?"),
        ("chart.png", "which fruit was sold most?"),
    ),
    "detect": (("astronaut.jpg", "face ; hair"), ("china.jpg", "tower ; tree")),
    "segment": (("flower.jpg", "flower"), ("astronaut.jpg", "person")),
    "read": (("sign.png", ""),),
}
_OF_PHOTOS = ("vqav2", "okvqa", "aokvqa", "gqa", "nlvr2", "vizwiz", "rsvqa", "tallyqa", "refcoco")
_OF_CHARTS = ("chartqa", "scicap", "ai2d", "science")


def examples_of(checkpoint: str, folder: pathlib.Path) -> list[tuple[str, str]]:
    """Writes the pictures of a checkpoint's examples.

    Args:
      checkpoint: name or path.
      folder: for the pictures.

    Returns:
      (path of the picture, prompt) of each; none where a run's data cannot be read any more.
    """
    path = pathlib.Path(checkpoint).expanduser()
    if checkpoint == "tiny":
        found = _scenes()
    elif path.is_dir() and is_run(path):
        found = _of_run(path)
    else:
        found = _photos(checkpoint, tasks_of(checkpoint))
    rows = []
    target = folder / "".join(c if c.isalnum() else "_" for c in checkpoint)
    target.mkdir(parents=True, exist_ok=True)
    try:
        for i, (name, picture, prompt) in enumerate(found):
            file = target / f"{i}_{name}"
            file.write_bytes(picture)
            rows.append((str(file), prompt))
    except UserError as e:
        note(f"there are no examples of {checkpoint}: {e}")
    return rows


_Example = tuple[str, bytes, str]  # the name of the picture's file, its bytes, the prompt


def _scenes() -> Iterator[_Example]:
    scenes = SceneSource(split="page", tasks=_SCENE_TASKS, max_shapes=2, wording="pt")
    drawn = (scenes.draw(i) for i in range(len(scenes)))
    several = (example for example, shapes in drawn if len(shapes) > 1)
    for task in _SCENE_TASKS:
        example = next(x for x in several if x["task"] == task)
        picture = Image.fromarray(example["image"])
        picture = picture.resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
        yield "scene.png", _png(picture), example["prefix"]


def _of_run(path: pathlib.Path) -> Iterator[_Example]:
    """Examples of the run's evaluations, and then of its training."""
    config = read_run(path).config
    data = [spec.data for spec in config.evals.values() if spec.kind == "answers"]
    sources = [make_source(spec) for spec in (*data, config.input.data) if spec]
    examples = (source[i] for source in sources for i in range(min(_COUNT, len(source))))
    ask = Pipeline.parse(config.answering.prompt) if config.answering.prompt else None
    for example in itertools.islice(examples, _COUNT):
        if "prefix" not in example and ask:
            example = ask(example, np.random.default_rng(0))
        image: Any = example["image"]
        image = decode_image(image) if isinstance(image, bytes) else as_rgb(image)
        if image.ndim == 3:  # not frames
            yield "example.png", _png(Image.fromarray(image)), example.get("prefix", "")


def _photos(checkpoint: str, tasks: Tasks) -> Iterator[_Example]:
    """Examples for each of the tasks, from pictures of the kind that the checkpoint knows."""
    release = released.get(pathlib.PurePath(checkpoint).name.removesuffix(".npz"))
    kind = release.name if release and release.prompt else ""
    for task, asked in _ASKED.items():
        if task not in tasks:
            continue
        for picture, text in asked:
            if kind and any(part in kind for part in _OF_PHOTOS) and picture.endswith(".png"):
                continue
            if kind and any(part in kind for part in _OF_CHARTS) and picture != "chart.png":
                picture, text = "chart.png", text and "how many pears were sold?"
            yield picture, _picture(picture), tasks[task].prompt(text, "en")


def _picture(name: str) -> bytes:
    drawn = {"sign.png": _sign, "chart.png": _chart}
    return _png(drawn[name]()) if name in drawn else (_PHOTOS / name).read_bytes()


def _sign() -> Image.Image:
    picture = Image.new("RGB", (400, 400), "#b9c4cc")
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((20, 40, 380, 330), 16, "#14532d", "#f8fafc", 6)
    lines = (("BOOKSHOP", 50, 94), ("Mon-Sat  9:00-18:30", 32, 170), ("Sun  11:00-16:00", 32, 222))
    for text, size, y in lines:
        draw.text((200, y), text, "#f8fafc", ImageFont.load_default(size), "mm")
    draw.text((200, 284), "Please ring the bell", "#fde68a", ImageFont.load_default(24), "mm")
    return picture


def _chart() -> Image.Image:
    picture = Image.new("RGB", (400, 400), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(20)
    draw.text((200, 28), "Fruit sold in May (kg)", "#101828", ImageFont.load_default(24), "mm")
    bars = (("apples", 42, "#e6194b"), ("pears", 27, "#3cb44b"), ("plums", 58, "#911eb4"))
    for i, (label, value, color) in enumerate(bars):
        left = 45 + 115 * i
        draw.rectangle((left, 310 - 4 * value, left + 80, 310), fill=color)
        draw.text((left + 40, 296 - 4 * value), str(value), "#101828", font, "mm")
        draw.text((left + 40, 330), label, "#101828", font, "mm")
    draw.line((25, 310, 375, 310), "#101828", 2)
    return picture


def _png(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()
