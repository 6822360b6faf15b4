"""Pictures for notebooks and files: images with answers, examples, a run's predictions, curves."""

import io
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from pgjax.data.draw import SheetItem, contact_sheet, draw_masks
from pgjax.data.jsonl import JsonlSource
from pgjax.data.sources import make_source
from pgjax.errors import UserError
from pgjax.evaluation.contact_sheet import draw_records
from pgjax.evaluation.main_score import main_score
from pgjax.inference.answer import Answer
from pgjax.inference.detections import DetectedObject
from pgjax.inference.images import ImageLike, as_list, read_image
from pgjax.loading.run_directory import read_run
from pgjax.training.loop import PREDICTIONS
from pgjax.training.metrics_writer import METRICS_FILE

Shown = str | Answer | Sequence[DetectedObject]  # what can be shown beneath or on an image

_SIDE = 256  # pixels of a picture's longer side; smaller ones are enlarged by whole numbers


def show(
    images: ImageLike | Sequence[ImageLike],
    answers: Shown | Sequence[Shown],
    prompts: str | Sequence[str] = "",
    *,
    columns: int = 4,
) -> Image.Image:
    """Lays out images with their answers in a sheet; boxes and masks are drawn.

    Args:
      images: one image or a list, as for `Model.generate`.
      answers: for each image its answer: a text, or what `Model.detect` or `Model.segment` found.
      prompts: one for each image, or one for all.
      columns: of the sheet.

    Raises:
      UserError: the numbers of images, answers and prompts differ, or an image is unreadable.
    """
    several, given = as_list(images), as_list(answers)
    pictures: list[Any] = [images] if several is None else several
    shown: list[Any] = [answers] if several is None or given is None else given
    texts = [prompts] * len(pictures) if isinstance(prompts, str) else list(prompts)
    if not len(pictures) == len(shown) == len(texts) > 0:
        raise UserError(
            f"got {len(pictures)} images, {len(shown)} answers and {len(texts)} prompts, expected "
            "as many of each, and at least one."
        )
    items = [_item(*item) for item in zip(pictures, shown, texts, strict=True)]
    return contact_sheet(items, columns, 1)


def _item(image: ImageLike, answer: Shown, prompt: str) -> SheetItem:
    picture = read_image(image)
    if picture.ndim == 4:  # of frames, the first
        picture = picture[0]
    answer = answer.text if isinstance(answer, Answer) else answer
    found = () if isinstance(answer, str) else answer
    picture = draw_masks(picture, [x.mask for x in found if x.mask is not None])
    longest = max(picture.shape[:2])
    scale = _SIDE // longest if longest < _SIDE else _SIDE / longest
    height, width = (max(1, round(v * scale)) for v in picture.shape[:2])
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC)
    return SheetItem(
        image=np.asarray(resized),
        prompt=prompt,
        answer=answer if isinstance(answer, str) else f"{len(found)} found",
        boxes=[[v * scale for v in x.box] for x in found],
        labels=[f"{x.label} {x.score:.0%}" for x in found],
    )


def show_examples(fname: str, *, count: int = 8, columns: int = 4) -> Image.Image:
    """Lays out the first examples of a JSONL file: images, prompts and targets with their boxes.

    Args:
      fname: the JSONL file; image paths in it are relative to its folder.
      count: the number of examples, at most.
      columns: of the sheet.

    Raises:
      UserError: the file cannot be read, or holds no example.
    """
    source = JsonlSource(fname)
    records = [{**source[i], "index": i, "scores": {}} for i in range(min(count, len(source)))]
    if not records:
        raise UserError(f"{fname} holds no example.")
    return draw_records(source, records, columns)


def show_run(
    workdir: str | os.PathLike[str], evaluation: str = "answers", *, count: int = 4, times: int = 4
) -> Image.Image:
    """Lays out a run's predictions before, during and after training, one row per example.

    Args:
      workdir: run directory.
      evaluation: the name of an evaluation that stores predictions, and runs every few steps.
      count: the number of examples, at most.
      times: the number of evaluations shown, spread evenly from the first to the last.

    Raises:
      UserError: the run has stored no predictions of that evaluation.
    """
    workdir = pathlib.Path(workdir)
    folder = workdir / PREDICTIONS
    files = {int(f.stem.rpartition("_")[2]): f for f in folder.glob(f"{evaluation}_*.jsonl")}
    if not files:
        raise UserError(f"{folder} holds no predictions of {evaluation!r}.")
    steps = sorted(files)
    chosen = np.linspace(0, len(steps) - 1, min(times, len(steps))).round().astype(int)
    rows = []
    for step in (steps[i] for i in chosen):
        with files[step].open() as f:
            records = [json.loads(line) for line, _ in zip(f, range(count), strict=False)]
        rows.append([{**r, "prefix": f"step {step}: {r.get('prefix', '')}"} for r in records])
    spec = read_run(workdir).config.evals[evaluation]
    source = make_source(spec.data)
    main = main_score(spec.kind, spec.metric)
    by_example = [record for records in zip(*rows, strict=True) for record in records]
    return draw_records(source, by_example, len(rows), main)


def curves(workdir: str | os.PathLike[str], *keys: str) -> Image.Image:
    """Plots a run's metrics over its steps, one curve each.

    Args:
      workdir: run directory.
      *keys: names in `metrics.jsonl`, such as `loss`, `val/loss` and `answers/acc`; `loss` where
        none is given.

    Raises:
      UserError: matplotlib is not installed, or the run has no such metric.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError(
            "curves() needs matplotlib, which is not installed: pip install matplotlib."
        ) from None
    path, keys = pathlib.Path(workdir) / METRICS_FILE, keys or ("loss",)
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    except OSError as e:
        raise UserError(f"{path} cannot be read: {e.strerror}.") from None
    figure = Figure(figsize=(4.5 * len(keys), 3.2), dpi=90, layout="constrained")
    for place, key in enumerate(keys, 1):
        points = [(row["step"], row[key]) for row in rows if key in row]
        if not points:
            known = sorted({k for row in rows for k in row} - {"step"})
            raise UserError(f"{path} has no {key!r}; it has {known}.")
        axes = figure.add_subplot(1, len(keys), place)
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else "")
        axes.set(xlabel="step", title=key)
        axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return Image.open(picture).convert("RGB")
