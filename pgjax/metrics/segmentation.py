"""Referring expression segmentation: one phrase, one mask (RefCOCO, RefCOCO+, RefCOCOg)."""

from collections.abc import Callable, Sequence

import numpy as np

from pgjax.errors import DataError, UserError
from pgjax.metrics.boxes import iou
from pgjax.registry import METRICS
from pgjax.text.locations import BINS, parse_boxes

# Here the published scores take location tokens as 1023rds, so that the last is the far edge.
_SCALE = BINS / (BINS - 1)

# (16 codes, box (y0, x0, y1, x1) in 0..1, (height, width)) -> mask bool [height, width]
DrawMask = Callable[[Sequence[int], Sequence[float], tuple[int, int]], np.ndarray]


@METRICS.register("segmentation", main="miou", needs=("draw",))
def segmentation(prediction: str, meta: dict, *, draw: DrawMask) -> dict[str, float]:
    """Intersection over union of the mask, at the image's full resolution, and of the box.

    The first object in the answer that has a mask counts. An answer without one, or one whose box
    covers no pixel, scores 0.

    Args:
      prediction: decoded answer, 4 location and 16 segmentation tokens.
      meta: `mask`, the reference, as COCO run lengths (`{"size": [H, W], "counts": …}`) or as an
        array [H,W]; its box is the first of `boxes` (y0, x0, y1, x1) in 0..1 if given, else the
        one around the mask.
      draw: decodes codes into a mask of the image. It takes a model, so the evaluator gives it.

    Returns:
      `miou` in 0..1, of the mask; `boxacc/0.5` and `boxacc/0.75`, 1.0 where the IoU of the boxes
      reaches that; `valid`, whether there was a mask. Averaged they are the published mIoU (the
      mean over phrases, not pixels) and the share of right boxes.

    Raises:
      UserError: run lengths, and pycocotools is not installed.
      DataError: no reference mask, or an empty one.
    """
    truth = _reference(meta)
    height, width = truth.shape
    for found in parse_boxes(prediction):
        if found.codes:
            box = [v * _SCALE for v in found[:4]]
            y0, x0, y1, x1 = (int(v * s) for v, s in zip(box, (height, width) * 2, strict=True))
            if y0 < y1 and x0 < x1:
                mask = draw(found.codes, box, (height, width))
                overlap = iou(box, meta["boxes"][0] if "boxes" in meta else _bounds(truth))
                return {
                    "miou": float((mask & truth).sum() / (mask | truth).sum()),
                    "boxacc/0.5": float(overlap >= 0.5),
                    "boxacc/0.75": float(overlap >= 0.75),
                    "valid": 1.0,
                }
            break
    return {"miou": 0.0, "boxacc/0.5": 0.0, "boxacc/0.75": 0.0, "valid": 0.0}


def _reference(meta: dict) -> np.ndarray:
    """bool [H,W], not empty."""
    if "mask" not in meta:
        raise DataError(f"metric segmentation expects the key 'mask', the example has {list(meta)}")
    mask = meta["mask"]
    if isinstance(mask, dict):
        try:
            from pycocotools import mask as run_lengths
        except ImportError as e:
            raise UserError(
                "metric segmentation needs pycocotools: pip install -e '.[metrics]'"
            ) from e
        mask = run_lengths.decode(
            {"size": [int(v) for v in mask["size"]], "counts": mask["counts"]}
        )
    mask = np.asarray(mask).astype(bool)
    if mask.ndim != 2 or not mask.any():
        raise DataError(
            f"metric segmentation: the reference mask of shape {mask.shape} has "
            f"{int(mask.sum())} pixels, expected some in [H, W]"
        )
    return mask


def _bounds(mask: np.ndarray) -> tuple[float, ...]:
    """The box around a mask in 0..1: (y0, x0, y1, x1)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    return rows[0] / height, columns[0] / width, (rows[-1] + 1) / height, (columns[-1] + 1) / width
