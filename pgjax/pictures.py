"""Pictures to look at, in a notebook or saved: answers, examples, predictions of a run, curves."""

import io
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from pgjax.data.decode import as_rgb, decode_image
from pgjax.data.draw import SheetItem, contact_sheet, draw_masks
from pgjax.data.jsonl import JsonlSource
from pgjax.data.sources import make_source
from pgjax.errors import UserError
from pgjax.evaluation.contact_sheet import draw_records
from pgjax.evaluation.main_score import main_score
from pgjax.inference.model import ImageLike, PromptedImages
from pgjax.inference.objects import DetectedObject
from pgjax.loading.run_directory import read_run
from pgjax.training.loop import PREDICTIONS
from pgjax.training.metrics_writer import METRICS_FILE

SIDE = 256  # pixels of a picture's longer side; smaller ones are enlarged by whole numbers


def show(
    images: ImageLike | Sequence[ImageLike],
    answers: Any,
    prompts: str | Sequence[str] = "",
    *,
    columns: int = 4,
) -> Image.Image:
    """A sheet of images with their answers; boxes and masks are drawn.

    Args:
      images: one image or a list, as for `Model.generate`.
      answers: for each image its answer: a text, or the objects that `Model.detect` or
        `Model.segment` found.
      prompts: one for each image, or one for all.
      columns: of the sheet.

    Raises:
      UserError: there are not as many answers, or prompts, as images; or an unreadable image.
    """
    if not isinstance(images, list | tuple):
        images, answers = [images], [answers]
    if isinstance(prompts, str):
        prompts = [prompts] * len(images)
    if not len(images) == len(answers) == len(prompts) > 0:
        raise UserError(
            f"got {len(images)} images, {len(answers)} answers and {len(prompts)} prompts, "
            "expected as many of each, and at least one."
        )
    asked = PromptedImages(images, prompts)
    items = [_item(asked[i]["image"], answers[i], prompts[i]) for i in range(len(images))]
    return contact_sheet(items, columns, 1)


def _item(
    image: bytes | np.ndarray, answer: str | Sequence[DetectedObject], prompt: str
) -> SheetItem:
    image = decode_image(image) if isinstance(image, bytes) else as_rgb(image)
    found = () if isinstance(answer, str) else answer
    image = draw_masks(image, [x.mask for x in found if x.mask is not None])
    longest = max(image.shape[:2])
    scale = SIDE // longest if longest < SIDE else SIDE / longest
    size = tuple(max(1, round(v * scale)) for v in image.shape[1::-1])
    return SheetItem(
        image=np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)),
        prompt=prompt,
        answer=answer if isinstance(answer, str) else f"{len(found)} found",
        boxes=[[v * scale for v in x.box] for x in found],
        labels=[f"{x.label} {x.score:.0%}" for x in found],
    )


def show_examples(fname: str, *, count: int = 8, columns: int = 4) -> Image.Image:
    """The first lines of a JSONL file: images, prompts and targets, with the boxes in those.

    Args:
      fname: of the file; image paths are relative to it.
      count: of the examples, at most.
      columns: of the sheet.

    Raises:
      UserError: it cannot be read.
    """
    source = JsonlSource(fname)
    records = [{**source[i], "index": i, "scores": {}} for i in range(min(count, len(source)))]
    if not records:
        raise UserError(f"{fname} holds no example.")
    return draw_records(source, records, columns)


def show_run(
    workdir: str | os.PathLike, evaluation: str = "answers", *, count: int = 4, times: int = 4
) -> Image.Image:
    """What a run answered before, during and after training: an example a row.

    Args:
      workdir: run directory.
      evaluation: the name of an evaluation that answers; it should run every few steps.
      count: of the examples, at most.
      times: how many of its evaluations are shown, from first to last.

    Raises:
      UserError: the run has stored no such predictions.
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


def curves(workdir: str | os.PathLike, *keys: str) -> Image.Image:
    """A run's metrics over its steps, a curve each.

    Args:
      workdir: run directory.
      *keys: of `metrics.jsonl`, such as `loss`, `val/loss` and `answers/acc`; none for `loss`.

    Raises:
      UserError: matplotlib is not installed, or the run has no such metric.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("curves need matplotlib: pip install -e '.[notebook]'") from None
    path, keys = pathlib.Path(workdir) / METRICS_FILE, keys or ("loss",)
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror}") from None
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
